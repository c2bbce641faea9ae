"""Offsets into text: UTF-16 code units against code points, and where an answer stands."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class MappedText(NamedTuple):
    """A text that was derived from another, with the way back.

    Args:
        text: the derived text, N characters.
        starts: int32 [N], the original code point at which derived character i begins.
        ends: int32 [N], one past the original code point at which it ends; a run of characters that were converted
            together all begin and end where the original run does.
    """

    text: str
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


class TextTransform(Protocol):
    """Derives the text that a model reads from the published one."""

    @property
    def name(self) -> str:
        """What it does and in which version, for cache keys and Records."""

    def __call__(self, text: str) -> MappedText:
        """Derive a text."""


def utf16_to_codepoint(text: str, offset: int) -> int | None:
    """Convert an offset in UTF-16 code units to one in code points.

    Args:
        text: the text that is counted.
        offset: code units before the place; 0 to the length of `text` in code units.

    Returns:
        Code points before the place, or None if it is outside the text or inside a surrogate pair.
    """
    units = text.encode("utf-16-le", "surrogatepass")
    if not 0 <= 2 * offset <= len(units):
        return None
    try:
        return len(units[: 2 * offset].decode("utf-16-le"))
    except UnicodeDecodeError:
        return None


def nearest_occurrence(text: str, part: str, char_start: int) -> int:
    """Return the code point where `part` occurs nearest to `char_start` (the earlier of two), or -1."""
    before = text.rfind(part, 0, char_start + len(part))
    after = text.find(part, char_start)
    if before < 0 or after < 0:
        return max(before, after)
    return before if char_start - before <= after - char_start else after


def is_unicode(text: str) -> bool:
    r"""Return whether `text` has a UTF-8 form; JSON's "\ud800" alone makes a string that has none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
