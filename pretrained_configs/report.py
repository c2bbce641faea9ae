"""What a load did with every tensor, for the error, for people and for the record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from preprocess.base.errors import CheckpointError

Shape = tuple[int, ...]


class MisfitError(CheckpointError):
    """Tensors and the model they are meant for don't fit; whoever knows the files adds their names."""


@dataclass
class LoadReport:
    """What became of every source tensor and every wanted parameter.

    Args:
        namemap: name of the map.
        mapped: (our name, published names, our shape, stored type) of each filled parameter.
        fresh: wanted parameters that the source does not have and need not have.
        ignored: (published name, reason) of each tensor left out on purpose.
        unmapped: published names that nothing accounts for, with what is wrong.
        missing: wanted parameters that can't be filled, with the published names they need.
        mismatched: tensors whose shape or type is wrong, with what was found and expected.
        notes: what else was done to read the file.
    """

    namemap: str
    mapped: list[tuple[str, tuple[str, ...], Shape, str]] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    unmapped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """One sentence per kind of problem; empty if the load is sound."""
        problems = []
        if self.unmapped:
            names = fold(self.unmapped)
            remedy = 'map them or list them under "ignore"'
            problems.append(f"{_count(self.unmapped, 'source tensor')} unmapped: {', '.join(names)} ({remedy})")
        if self.missing:
            names = fold(self.missing)
            remedy = "give weights that have them, or the config.json that belongs to these"
            problems.append(f"{_count(self.missing, 'parameter')} missing: {', '.join(names)}; {remedy}")
        if self.mismatched:
            names = fold(self.mismatched)
            remedy = "give the config.json that belongs to these weights"
            problems.append(f"{_count(self.mismatched, 'tensor')} of the wrong kind: {', '.join(names)}; {remedy}")
        return problems

    def check(self) -> None:
        """Refuse an unsound load.

        Raises:
            MisfitError: naming every unmapped, missing and mismatched tensor.
        """
        if self.problems:
            raise MisfitError(f"namemap {self.namemap}: {'; '.join(self.problems)}")

    def lines(self) -> list[str]:
        """Return the report for people; runs of layers are folded into one line."""
        used = sum(len(theirs) for _, theirs, _, _ in self.mapped)
        types = ", ".join(sorted({dtype for *_, dtype in self.mapped})) or "none"
        lines = [
            f"namemap {self.namemap}: {len(self.mapped)} parameters from {used} tensors (stored as {types}), "
            f"{len(self.fresh)} fresh, {len(self.ignored)} ignored"
        ]
        lines += fold(
            f"  mapped   {ours} {list(shape)} <- {', '.join(theirs)}" for ours, theirs, shape, _ in self.mapped
        )
        lines += fold(f"  fresh    {name}" for name in self.fresh)
        lines += fold(f"  ignored  {name}: {reason}" for name, reason in self.ignored)
        lines += [f"  note     {note}" for note in self.notes]
        return lines + [f"  PROBLEM  {problem}" for problem in self.problems]


def fold(lines: Iterable[str]) -> list[str]:
    """Fold lines that differ only in a layer's number: "layers.{0..11}.ffn.up.bias"; nothing is left out."""
    groups: dict[str, list[int]] = {}
    plain: dict[str, str] = {}
    for line in lines:
        numbers = re.findall(r"(?<=\.)\d+(?=\.)", line)
        key = re.sub(r"(?<=\.)\d+(?=\.)", "\0", line) if len(set(numbers)) == 1 else line
        groups.setdefault(key, []).append(int(numbers[0]) if key != line else -1)
        plain.setdefault(key, line)
    return [plain[key] if len(layers) == 1 else key.replace("\0", _runs(layers)) for key, layers in groups.items()]


def _runs(numbers: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "{" + ",".join(str(a) if a == b else f"{a}..{b}" for a, b in runs) + "}"


def _count(items: Sequence[str], what: str) -> str:
    return f"{len(items)} {what}{'' if len(items) == 1 else 's'}"
