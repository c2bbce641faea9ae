"""Name maps: which published tensor is which of our parameters, as data with invertible operations.

A map is one JSON file under `namemaps/`:

* "rules": our name, the published names it is made of, and the operation ("rename" where none is given) on them, each
  with its axes reversed first where "transpose" says so, heads and their width made one axis where "fold" does, and
  the layer's row taken where "row" does. `{i}`, `{g}` and `{j}` stand for numbers, `{path}` for any
  name, the other placeholders for "weight" or "bias"; "rows" names the config field that counts the rows.
* "leaves": what such a placeholder stands for on both sides, and whether the axes are reversed.
* "extends": a map whose rules and other entries hold too, with "replace" applied to its published names.
* "aliases": endings of old names, with today's.
* "implied_prefixes": what may have been left out before a published name.
* "ignore": published names (shell patterns) that no wanted parameter needs, each with the reason.

* "signatures" and "config" say which files are of this format and what its configuration means: see `published`.

Every source tensor is mapped or ignored with a reason, every wanted parameter is filled or declared fresh; anything
else is one error that lists all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from preprocess.base.errors import CheckpointError
from preprocess.base.names import did_you_mean
from pretrained_configs.mapfile import DIRECTORY, module, read
from pretrained_configs.report import LoadReport, Shape, fold
from pretrained_configs.rules import LEAVES, OPS, Rule, compiled, placeholders, rules

#: Parameters that a checkpoint need not have: a pre-trained encoder comes without a task's head.
MAY_BE_FRESH = ("head.*", "pooler.*")

#: The format that models are saved in, where it has such an architecture.
SAVED = "transformers"
#: In it, heads of problems that it does not know keep their names.
_OTHER_HEADS = Rule("head.{path}", ("head.{path}",))


@runtime_checkable
class LazyTensor(Protocol):
    """A stored tensor whose values are read when asked for."""

    @property
    def shape(self) -> Shape:
        """The stored shape."""

    @property
    def dtype(self) -> str:
        """The stored type, e.g. "float16"."""

    def read(self) -> np.ndarray:
        """Read the values; floating-point ones as float32."""


Source = Mapping[str, "LazyTensor | np.ndarray"]


@dataclass(frozen=True)
class _Assignment:
    """How one wanted parameter is filled: by `rule`, from source tensors of these keys."""

    ours: str
    keys: tuple[str, ...]
    rule: Rule
    shape: Shape
    layer: int


class NameMap:
    """An invertible map between published names and ours."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        """Check a map.

        Args:
            name: what to call the map in errors.
            values: the parsed JSON.

        Raises:
            CheckpointError: if the map itself is wrong.
        """
        self.name = name
        self._implied = tuple(values.get("implied_prefixes", ()))
        self._aliases = tuple((alias["old"], alias["new"]) for alias in values.get("aliases", ()))
        self._ignore = tuple((rule["theirs"], rule["reason"]) for rule in values.get("ignore", ()))
        self._ignore += ((_OTHER_HEADS.theirs[0].replace("{path}", "*"), "this model has no such head"),)
        self.values = values
        leaves = {**LEAVES, **values.get("leaves", {})}
        self._rules = [rule for entry in values["rules"] for rule in rules(entry, leaves)]
        if values.get("config", {}).get("target") == SAVED:
            self._rules.append(_OTHER_HEADS)
        for rule in self._rules:
            holders = {frozenset(placeholders(name)) for name in (rule.ours, *rule.theirs)}
            if rule.op not in OPS:
                raise CheckpointError(
                    f"namemap {name}: {rule.ours}: no operation {rule.op!r} (known: {', '.join(OPS)})"
                )
            if len(holders) != 1 and not rule.row:
                raise CheckpointError(f"namemap {name}: {rule.ours}: placeholders differ between the two sides")
            if rule.op == "rename" and len(rule.theirs) != 1:
                raise CheckpointError(f"namemap {name}: {rule.ours}: rename takes one published name")

    # Compiled when first matched: most maps are loaded for their signatures alone.
    @cached_property
    def _ours(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [(compiled(rule.ours), rule) for rule in self._rules]

    @cached_property
    def _theirs(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [(compiled(theirs), rule) for rule in self._rules for theirs in rule.theirs]

    @classmethod
    @cache
    def load(cls, name: str) -> NameMap:
        """Return a map that comes with this package.

        Raises:
            CheckpointError: if there is no such map, naming those there are.
        """
        known = cls.names()
        if name not in known:
            hint = did_you_mean(name, known)
            raise CheckpointError(f"namemap {name!r} does not exist (there are: {', '.join(known)}){hint}")
        return cls(name, read(name))

    @staticmethod
    def names() -> list[str]:
        """Return the names of the maps that come with this package, sorted."""
        return sorted(path.stem for path in DIRECTORY.glob("*.json"))

    def to_ours(
        self,
        source: Source,
        wanted: Mapping[str, Shape],
        *,
        may_be_fresh: Iterable[str] = MAY_BE_FRESH,
        spare: Iterable[str] = (),
    ) -> tuple[dict[str, np.ndarray], LoadReport]:
        """Load every wanted parameter that the source has; as `stream`, all at once."""
        report, tensors = self.stream(source, wanted, may_be_fresh=may_be_fresh, spare=spare)
        return dict(tensors), report

    def stream(
        self,
        source: Source,
        wanted: Mapping[str, Shape],
        *,
        may_be_fresh: Iterable[str] = MAY_BE_FRESH,
        spare: Iterable[str] = (),
    ) -> tuple[LoadReport, Iterator[tuple[str, np.ndarray]]]:
        """Load one parameter at a time.

        Everything is checked by names and shapes first; then each parameter is read when the iterator reaches it, so
        that no more than one parameter and one of its parts are held.

        Args:
            source: published name -> tensor.
            wanted: our name -> shape, for every parameter of the model.
            may_be_fresh: shell patterns of our names that the source may lack; only as whole modules.
            spare: shell patterns of our names that the source may have although the model does not use them.

        Raises:
            CheckpointError: one error that names every unmapped, missing and mis-shaped tensor.
        """
        report, assignments = self._plan(source, wanted, tuple(may_be_fresh), tuple(spare))
        report.check()
        return report, self._read(source, assignments)

    def report(
        self,
        source: Source,
        wanted: Mapping[str, Shape],
        *,
        may_be_fresh: Iterable[str] = MAY_BE_FRESH,
        spare: Iterable[str] = (),
    ) -> LoadReport:
        """Say what a load (`stream`) would do, problems included, without reading a tensor."""
        return self._plan(source, wanted, tuple(may_be_fresh), tuple(spare))[0]

    def shape_in(self, source: Source, ours: str) -> Shape | None:
        """Return the shape that one of our parameters has in a source; None if it is not all there."""
        rule, names, _ = self._rule_of(ours) or (None, (), 0)
        keys = {self.canonical(key): key for key in source}
        if rule is None or not all(name in keys for name in names):
            return None
        return rule.shape([tuple(source[keys[name]].shape) for name in names])

    def heads_in(self, source: Source) -> dict[str, int]:
        """Return the rows of each head's own matrix that a source holds, by the head's name."""
        named = (self._ours_of(self.canonical(key)) for key in source)
        shapes = {
            ours: self.shape_in(source, ours) for ours in named if ours is not None and ours.startswith("head.")
        }
        rows = {}
        for ours, shape in shapes.items():
            _, name, *inner = ours.split(".")
            if shape is not None and inner in (["weight"], ["output", "weight"]):
                rows[name] = shape[0]
        return rows

    def given_in(self, source: Source) -> dict[str, str]:
        """Return what each head that a source holds reads given a position, as `parameter_shapes` takes it."""
        ours = {self._ours_of(self.canonical(key)) or "" for key in source}
        heads = [name.split(".")[1] for name in ours if re.fullmatch(r"head\.[^.]+\.hidden\.weight", name)]
        return {name: f"{'token' if f'head.{name}.norm.weight' in ours else 'sequence'}_given" for name in heads}

    def to_theirs(self, ours: Mapping[str, np.ndarray], n_heads: int = 0) -> dict[str, np.ndarray]:
        """Write our parameters under today's published names; the exact inverse of `to_ours`.

        Parts of one parameter are views of it, nothing is copied but what layers have in one published tensor.

        Args:
            ours: our name -> values.
            n_heads: attention heads of the model, which formats need whose kernels have an axis of them.

        Raises:
            CheckpointError: naming every parameter that the map does not know or can't split.
        """
        theirs: dict[str, np.ndarray] = {}
        rows: dict[str, dict[int, np.ndarray]] = {}
        unknown = []
        for name, tensor in ours.items():
            rule, names, layer = self._rule_of(name) or (None, (), 0)
            if rule is None:
                unknown.append(name)
                continue
            if len(names) > 1 and tensor.shape[rule.axis] % len(names):
                unknown.append(f"{name} {list(tensor.shape)} (does not split into {len(names)})")
                continue
            for their, part in zip(names, rule.inverse(tensor, n_heads), strict=True):
                if rule.row:
                    rows.setdefault(their, {})[layer] = part
                else:
                    theirs[their] = part
        theirs |= {their: np.stack([layers[i] for i in sorted(layers)]) for their, layers in rows.items()}
        if unknown:
            raise CheckpointError(f"namemap {self.name}: can't be written: {', '.join(fold(unknown))}")
        return theirs

    def _plan(
        self, source: Source, wanted: Mapping[str, Shape], may_be_fresh: tuple[str, ...], spare: tuple[str, ...]
    ) -> tuple[LoadReport, list[_Assignment]]:
        report = LoadReport(self.name)
        keys = self._index(source, report)
        assignments, absent = [], []
        used: set[str] = set()
        for ours, shape in wanted.items():
            rule, names, layer = self._rule_of(ours) or (None, (), 0)
            used.update(names)
            if rule is not None and all(name in keys for name in names):
                assignments.append(_Assignment(ours, tuple(keys[name] for name in names), rule, tuple(shape), layer))
            else:
                lacking = [name for name in names if name not in keys]
                absent.append((ours, lacking, len(lacking) < len(names)))
        self._judge_absent(report, absent, {module(assignment.ours) for assignment in assignments}, may_be_fresh)
        report.missing = [line + self._tied_to(line, keys, source, wanted) for line in report.missing]
        for name, key in keys.items():
            if name not in used:
                self._account(report, name, key, spare)
        for assignment in assignments:
            self._check_shape(report, assignment, source)
        self._check_rows(report, assignments, source)
        return report, assignments

    def _index(self, source: Source, report: LoadReport) -> dict[str, str]:
        """Today's published name -> key in the source."""
        keys: dict[str, str] = {}
        for key in source:
            name = self.canonical(key)
            if name in keys:
                report.unmapped.append(f"{key} (a second tensor for {name}, beside {keys[name]})")
            else:
                keys[name] = key
        return keys

    def canonical(self, key: str) -> str:
        """Return today's published name of a stored one."""
        name = key
        for old, new in self._aliases:
            if name == old or name.endswith("." + old):
                name = name.removesuffix(old) + new
        candidates = [name, *(prefix + name for prefix in self._implied)]
        return next((candidate for candidate in candidates if self._knows(candidate)), name)

    def _knows(self, name: str) -> bool:
        return any(pattern.fullmatch(name) for pattern, _ in self._theirs) or self._reason(name) is not None

    def _reason(self, name: str) -> str | None:
        return next((reason for pattern, reason in self._ignore if fnmatchcase(name, pattern)), None)

    def _rule_of(self, ours: str) -> tuple[Rule, tuple[str, ...], int] | None:
        """Return the rule that makes `ours`, the published names it needs, and the number of its layer, or 0."""
        for pattern, rule in self._ours:
            if match := pattern.fullmatch(ours):
                holders = match.groupdict()
                return rule, tuple(name.format(**holders) for name in rule.theirs), int(holders.get("i", 0))
        return None

    def _ours_of(self, name: str) -> str | None:
        """Return the parameter that a published name belongs to."""
        for pattern, rule in self._theirs:
            if match := pattern.fullmatch(name):
                return rule.ours.format(**{"i": "*", **match.groupdict()})  # of a tensor of all layers: any of them
        return None

    def _account(self, report: LoadReport, name: str, key: str, spare: tuple[str, ...]) -> None:
        reason = self._reason(name)
        ours = self._ours_of(name)
        if reason is None and ours is not None and any(fnmatchcase(ours, pattern) for pattern in spare):
            reason = "no layer of this model runs through it"
        if reason is not None:
            report.ignored.append((key, reason))
        elif ours is not None:
            report.unmapped.append(f"{key} (the config describes no such parameter)")
        else:
            report.unmapped.append(key)

    @staticmethod
    def _tied_to(missing: str, keys: Mapping[str, str], source: Source, wanted: Mapping[str, Shape]) -> str:
        """Say where a missing word table is, if the file keeps the one copy of it as the tied output layer."""
        name = missing.partition(" ")[0]
        if name != "embeddings.word.weight":
            return ""
        tied = [key for key in keys.values() if "decoder" in key and tuple(source[key].shape) == wanted[name]]
        return f"; {tied[0]} is the tied output layer and has its shape: rename it to that" if tied else ""

    @staticmethod
    def _judge_absent(
        report: LoadReport,
        absent: Iterable[tuple[str, list[str], bool]],
        filled: set[str],
        may_be_fresh: tuple[str, ...],
    ) -> None:
        for ours, lacking, partly in absent:
            # Half a module (a weight without its bias) is a damaged checkpoint, never a fresh head.
            whole = not partly and module(ours) not in filled
            if whole and any(fnmatchcase(ours, pattern) for pattern in may_be_fresh):
                report.fresh.append(ours)
            else:
                needs = f" (needs {', '.join(lacking)})" if lacking else " (the map has no rule for it)"
                report.missing.append(ours + needs)

    @staticmethod
    def _check_shape(report: LoadReport, assignment: _Assignment, source: Source) -> None:
        parts = [source[key] for key in assignment.keys]
        types = [str(part.dtype) for part in parts]
        shapes = [tuple(part.shape) for part in parts]
        shape = assignment.rule.shape(shapes)
        name = ", ".join(assignment.keys)
        if not all(dtype.startswith(("float", "bfloat")) for dtype in types):
            report.mismatched.append(f"{name}: {'/'.join(sorted(set(types)))} instead of floating point")
        elif shape != assignment.shape:
            stored = " + ".join(str(list(part)) for part in shapes)
            detail = f"{name}: found {stored}, expected {list(assignment.shape)} for {assignment.ours}"
            if assignment.rule.rows and shape and shape[1:] == assignment.shape[1:]:
                detail += (
                    f" ({assignment.rule.rows} is {assignment.shape[0]} in the config, {shape[0]} in the weights)"
                )
            report.mismatched.append(detail)
        else:
            report.mapped.append((assignment.ours, assignment.keys, assignment.shape, "/".join(sorted(set(types)))))

    @staticmethod
    def _check_rows(report: LoadReport, assignments: Iterable[_Assignment], source: Source) -> None:
        """A tensor of all layers has as many rows as there are layers: none is left over."""
        used: dict[str, int] = {}
        for assignment in assignments:
            for key in assignment.keys if assignment.rule.row else ():
                used[key] = max(used.get(key, 0), assignment.layer + 1)
        for key, n_layers in used.items():
            stored = list(source[key].shape)
            if stored[0] != n_layers:
                report.mismatched.append(f"{key}: found {stored}, expected {n_layers} rows, one for each layer")

    @staticmethod
    def _read(source: Source, assignments: Iterable[_Assignment]) -> Iterator[tuple[str, np.ndarray]]:
        for assignment in assignments:
            parts = (_values(source[key]) for key in assignment.keys)
            yield assignment.ours, assignment.rule.forward(parts, assignment.shape, assignment.layer)


def _values(tensor: LazyTensor | np.ndarray) -> np.ndarray:
    return tensor if isinstance(tensor, np.ndarray) else tensor.read()
