"""The rules of a name map: one of our parameters from published tensors, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pretrained_configs.report import Shape

#: Placeholder of a rule -> our leaf -> the published leaf; {"theirs": …, "transpose": true} where axes are reversed.
LEAVES: Mapping[str, Mapping[str, Any]] = {"leaf": {"weight": "weight", "bias": "bias"}}
_NUMBERS = ("i", "g", "j")


@dataclass(frozen=True)
class Op:
    """An invertible way to make one of our tensors from published ones, each with the axis as last argument.

    Args:
        shape: the shapes of the parts -> our shape; None where they don't fit together.
        forward: the parts, one at a time, and our shape -> our tensor.
        inverse: our tensor and the number of parts -> the parts.
    """

    shape: Callable[[Sequence[Shape], int], Shape | None]
    forward: Callable[[Iterable[np.ndarray], Shape, int], np.ndarray]
    inverse: Callable[[np.ndarray, int, int], list[np.ndarray]]


def _concat_shape(shapes: Sequence[Shape], axis: int) -> Shape | None:
    # Equal parts only: the inverse could not tell unequal ones apart.
    first = shapes[0]
    if axis >= len(first) or any(shape != first for shape in shapes):
        return None
    return first[:axis] + (first[axis] * len(shapes),) + first[axis + 1 :]


def _concat(parts: Iterable[np.ndarray], shape: Shape, axis: int) -> np.ndarray:
    # Filled part by part, so that never more than one part stands beside the result.
    out: np.ndarray | None = None
    filled = 0
    for part in parts:
        if out is None:
            out = np.empty(shape, part.dtype)
        np.moveaxis(out, axis, 0)[filled : filled + part.shape[axis]] = np.moveaxis(part, axis, 0)
        filled += part.shape[axis]
    assert out is not None and filled == shape[axis]
    return out


def _split(tensor: np.ndarray, parts: int, axis: int) -> list[np.ndarray]:
    return list(np.split(tensor, parts, axis))


OPS: Mapping[str, Op] = {
    "rename": Op(lambda shapes, _: shapes[0], lambda parts, *_: next(iter(parts)), lambda tensor, *_: [tensor]),
    "concat": Op(_concat_shape, _concat, _split),
}


@dataclass(frozen=True)
class Rule:
    """One line of a map: `ours` is made from `theirs` by `op`.

    Args:
        ours: our name, with placeholders.
        theirs: published names, in the order of the operation, with the same placeholders.
        op: a key of `OPS`.
        axis: the axis of the operation.
        rows: the config field that says how long the first axis is; "" where none does.
        row: whether the published tensors hold all layers along their first axis; ours, of layer `{i}`, is row i.
        fold: whether the last two axes of each published tensor, heads and their width, are one axis of ours.
        transpose: whether the axes of each published tensor are then reversed before the operation.
    """

    ours: str
    theirs: tuple[str, ...]
    op: str = "rename"
    axis: int = 0
    rows: str = ""
    row: bool = False
    fold: bool = False
    transpose: bool = False

    def shape(self, parts: Sequence[Shape]) -> Shape | None:
        """Return our shape for parts of these shapes; None where they don't fit."""
        if any(len(part) < self.row + 2 * self.fold for part in parts):
            return None
        turned = [self._turned_shape(part) for part in parts]
        return OPS[self.op].shape(turned, self.axis)

    def _turned_shape(self, part: Shape) -> Shape:
        part = part[1:] if self.row else part
        part = (*part[:-2], part[-2] * part[-1]) if self.fold else part
        return part[::-1] if self.transpose else part

    def forward(self, parts: Iterable[np.ndarray], shape: Shape, layer: int) -> np.ndarray:
        """Make our tensor of this shape from its parts; `layer` is the number that `{i}` stands for."""
        return OPS[self.op].forward((self._turned(part, layer) for part in parts), shape, self.axis)

    def _turned(self, part: np.ndarray, layer: int) -> np.ndarray:
        part = part[layer] if self.row else part
        part = part.reshape(*part.shape[:-2], -1) if self.fold else part
        return part.T if self.transpose else part

    def inverse(self, tensor: np.ndarray, n_heads: int) -> list[np.ndarray]:
        """Split our tensor into the parts, views of it; of parts that hold all layers, into their rows."""
        assert n_heads or not self.fold, f"{self.ours}: the number of heads is needed"
        parts = OPS[self.op].inverse(tensor, len(self.theirs), self.axis)
        parts = [part.T if self.transpose else part for part in parts]
        return [part.reshape(*part.shape[:-1], n_heads, -1) if self.fold else part for part in parts]


def placeholders(template: str) -> list[str]:
    """Return the names of a template's placeholders, in order."""
    return re.findall(r"\{(\w+)\}", template)


def rules(entry: Mapping[str, Any], leaves: Mapping[str, Any]) -> Iterator[Rule]:
    """Write a rule out for every leaf that its placeholder stands for."""
    rule = Rule(**{**entry, "theirs": tuple(entry["theirs"])})
    holder = next((name for name in placeholders(rule.ours) if name in leaves), None)
    if holder is None:
        yield rule
        return
    for ours, published in leaves[holder].items():
        leaf: dict[str, Any] = {"theirs": published} if isinstance(published, str) else published
        yield replace(
            rule,
            ours=rule.ours.replace(f"{{{holder}}}", ours),
            theirs=tuple(name.replace(f"{{{holder}}}", leaf["theirs"]) for name in rule.theirs),
            transpose=leaf.get("transpose", rule.transpose),
        )


def compiled(template: str) -> re.Pattern[str]:
    """Turn a template into a pattern; a placeholder stands for a number, "{path}" for anything."""
    pattern = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    for holder in placeholders(template):
        values = "0|[1-9][0-9]*" if holder in _NUMBERS else ".+"
        pattern = pattern.replace(f"{{{holder}}}", f"(?P<{holder}>{values})")
    return re.compile(pattern)
