"""Tags of tokens ("B-PER", "I-PER", "O") and the chunks that they mark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

OUTSIDE = "O"


class Chunk(NamedTuple):
    """A marked run of tokens: its type, its first token, and one past its last."""

    type: str
    start: int
    end: int


def chunks(tags: Sequence[str]) -> list[Chunk]:
    """Return the chunks that tags mark, in order, as seqeval finds them by default.

    That is the reading of conlleval: an I- without a B- before it begins a chunk, and so does an I- of another type
    than the tag before it. E- ends a chunk and S- is one, as in the scheme IOBES.

    Args:
        tags: "O", or a letter of "BIES", "-" and a type.
    """
    found: list[Chunk] = []
    start, prefix, kind = 0, OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        before, last = prefix, kind
        prefix, _, kind = tag.partition("-")
        if before != OUTSIDE and (before in "ES" or prefix in "BSO" or kind != last):
            found.append(Chunk(last, start, place))
        if prefix in "BS" or (prefix in "IE" and (before in "OES" or kind != last)):
            start = place
    return found
