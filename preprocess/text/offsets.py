"""Offsets into text: through conversions, in UTF-16 code units or code points, and where an answer stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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


#: Clauses and what stands between them: hardly a dictionary phrase reaches across.
_CLAUSES = re.compile(r"\w+|\W+")
#: Characters seen at once when phrases are looked for in one clause: several times the longest dictionary phrase.
_WINDOW = 64


class MappedConversion:
    """Finds the way back for a converter that only returns text, whatever the converter changes.

    A place is a border if the text before and after it, converted apart, gives the same result. What lies between two
    neighbouring borders is a unit. A unit that keeps its length maps character by character, one that does not maps
    as a whole. Nothing is assumed: a clause whose units don't join to its conversion maps as a whole, too.

    Args:
        convert: replaces characters and phrases of a text, from left to right; it maps "" to "".
    """

    def __init__(self, convert: Callable[[str], str]) -> None:
        """Remember the converter; each distinct character is converted alone once."""
        self._convert = convert
        self._alone = _CharacterTable(convert)

    def __call__(self, text: str) -> MappedText:
        """Convert a text."""
        converted = self._convert(text)
        if self._is_one_to_one(text, converted):
            start = np.arange(len(text), dtype=np.int32)
            return MappedText(converted, start, start + np.int32(1))
        units = np.array(list(self._clause_units(text, converted)), np.int32)
        return _map_units(converted, units[:, 0], units[:, 1], units[:, 2] == 1)

    def _is_one_to_one(self, text: str, converted: str) -> bool:
        """Return whether the characters, converted one by one, give the same text."""
        # The table has at most one character for each, so that equal lengths leave no room for cancellation.
        alone = text.translate(self._alone)
        return alone == converted and len(alone) == len(text)

    def _clause_units(self, text: str, converted: str) -> Iterator[tuple[int, int, bool]]:
        """Yield of each unit: characters before and after conversion, and whether it maps by place."""
        clauses = _CLAUSES.findall(text)
        results = list(map(self._convert, clauses))
        if "".join(results) != converted:
            clauses, results = [text], [converted]
        for clause, result in zip(clauses, results, strict=True):
            if self._is_one_to_one(clause, result):
                yield len(clause), len(clause), True
                continue
            units = list(self._units(clause))
            if "".join([unit for _, unit in units]) == result:
                yield from ((size, len(unit), size == len(unit)) for size, unit in units)
            else:
                yield len(clause), len(result), False

    def _units(self, clause: str) -> Iterator[tuple[int, str]]:
        """Yield length and conversion of the shortest unit at the left, then of the next."""
        begin = 0
        while begin < len(clause):
            window = clause[begin : begin + _WINDOW]
            whole = self._convert(window)
            size, unit = len(window), whole
            for border in range(1, len(window)):
                left = self._convert(window[:border])
                if whole.startswith(left) and left + self._convert(window[border:]) == whole:
                    size, unit = border, left
                    break
            yield size, unit
            begin += size


class _CharacterTable(dict[int, str]):
    """For `str.translate`: what a character becomes alone, or "" if that is not one character."""

    def __init__(self, convert: Callable[[str], str]) -> None:
        super().__init__()
        self._convert = convert

    def __missing__(self, code_point: int) -> str:
        alone = self._convert(chr(code_point))
        return self.setdefault(code_point, alone if len(alone) == 1 else "")


def _map_units(
    converted: str, before: NDArray[np.int32], after: NDArray[np.int32], by_place: NDArray[np.bool_]
) -> MappedText:
    """Map units of `before` characters that became `after` characters, by place or as a whole, [n_units] each."""
    unit_end = np.cumsum(before, dtype=np.int32)
    starts, ends = np.repeat(unit_end - before, after), np.repeat(unit_end, after)
    within = np.arange(len(converted), dtype=np.int32) - np.repeat(np.cumsum(after, dtype=np.int32) - after, after)
    single = np.repeat(by_place, after)
    starts[single] += within[single]
    ends[single] = starts[single] + 1
    return MappedText(converted, starts, ends)


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
