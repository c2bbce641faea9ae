"""What stands before a model's own names because it was saved inside something: "module.", "_orig_mod.", "model."."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

#: Parts of a name that torch puts in wherever it wraps a module: DataParallel, compile, FSDP, checkpointing.
_OF_TORCH = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True)
class Wrapping:
    """How a model's names are read.

    Args:
        stored: name -> the name that it has in the file.
        taken_off: what the names are read without, in the order of its first place in the file.
    """

    stored: Mapping[str, str]
    taken_off: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        """Say what was taken off; "" if nothing was."""
        parts = " and ".join(repr(part) for part in self.taken_off)
        return f"names are read without {parts}, which a program that wraps models has put in" if parts else ""


def wrappings(names: Collection[str]) -> Iterator[Wrapping]:
    """Yield the ways in which a file's names can be read, the one that takes off least first.

    What torch puts in is taken off in any case: no published name has such a part. What most names begin with may be
    the attribute that held the model, beside which stands a loss with weights of its own, or may belong to the model.
    """
    bare, taken_off = _without_torch(names)
    yield Wrapping(bare, taken_off)
    for prefix in common_prefixes(bare):
        stored = {name.removeprefix(prefix): key for name, key in bare.items()}
        if len(stored) == len(bare):
            yield Wrapping(stored, (*taken_off, prefix))


def common_prefixes(names: Collection[str]) -> Iterator[str]:
    """Yield what more than half of the names begin with, of whole parts and the shortest first."""
    separator = "/" if any("/" in name for name in names) else "."
    split = [name.split(separator) for name in names]
    first, n = Counter(parts[0] for parts in split).most_common(1)[0] if split else ("", 0)
    if n <= len(split) / 2:
        return
    common = os.path.commonprefix([parts[:-1] for parts in split if parts[0] == first])
    for i in range(1, len(common) + 1):
        yield separator.join(common[:i]) + separator


def _without_torch(names: Collection[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return name without torch's parts -> stored name, and those parts; all stay if two names would be equal."""
    bare, removed = {}, dict[str, None]()
    for name in names:
        parts = name.split(".")
        removed |= dict.fromkeys(f"{part}." for part in parts if part in _OF_TORCH)
        bare[".".join(part for part in parts if part not in _OF_TORCH)] = name
    if len(bare) < len(names) or not removed:
        return {name: name for name in names}, ()
    return bare, tuple(removed)
