"""What XLNet's and ALBERT's programs do to text before SentencePiece sees it, with each character's way back."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocess.ranges import Ints
from preprocess.tokenizers.pieces import BlankCharacters, code_points

#: Stands behind each text where they are one; it is no letter, so the last one before it is that of a text.
SEPARATOR = "\n"
_QUOTES = re.compile("``|''")
_UNSEEN = 255


class Cleaned(NamedTuple):
    """Texts that were derived from others, with the way back.

    Args:
        texts: the derived texts, of N characters with one separator behind each.
        starts: int64 [N], where in the original texts, with separators likewise, character i begins.
        ends: int64 [N], one past where it ends.
    """

    texts: list[str]
    starts: Ints
    ends: Ints

    def back(self, starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
        """Return spans [P] of the derived texts, with separators, as spans of the original ones."""
        begin = self.starts[starts]
        return begin, np.where(ends > starts, self.ends[ends - 1], begin)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is done, in this order.

    Args:
        spaces: white space becomes one space between words, none at the ends.
        quotes: two grave accents, and two apostrophes, become a quotation mark.
        accents: accents are kept; else compatible characters become plain ones (NFKD), and marks are dropped.
        lower: text is lower-cased.
    """

    spaces: bool
    quotes: bool
    accents: bool
    lower: bool


class Cleaner:
    """Applies rules to many texts at once.

    Args:
        rules: what is done.
    """

    def __init__(self, rules: Rules) -> None:
        """Prepare tables of characters, which fill as they are met."""
        self._rules = rules
        self._space = BlankCharacters(str.isspace)
        self._plain = _Plain(rules.accents)
        self._sizes = np.full(0x110000, _UNSEEN, np.uint8)

    def apply(self, texts: list[str]) -> Cleaned:
        """Clean texts.

        Args:
            texts: n strings without halves of surrogate pairs.
        """
        joined = with_separators(texts)
        starts = np.arange(len(joined))
        ends = starts + 1
        separators = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1) - 1
        if self._rules.spaces:
            code, starts = self._spaced(joined, separators)
            joined, ends = code.astype("<u4").tobytes().decode("utf-32-le"), starts + 1
        if self._rules.quotes and ("``" in joined or "''" in joined):
            first = np.array([match.start() for match in _QUOTES.finditer(joined)], np.int64)
            ends[first] = ends[first + 1]
            joined, starts, ends = _QUOTES.sub('"', joined), np.delete(starts, first + 1), np.delete(ends, first + 1)
        spelled, source = self._spelled(joined)
        starts, ends = starts[source], ends[source]
        edges = [-1, *np.searchsorted(starts, separators).tolist()]
        return Cleaned([spelled[first + 1 : last] for first, last in pairwise(edges)], starts, ends)

    def _spaced(self, joined: str, separators: Ints) -> tuple[NDArray[np.uint32], Ints]:
        """Return the code points with single spaces only between words, and where each comes from."""
        code = code_points(joined)
        space = self._space[code]
        solid = ~space
        solid[separators] = False
        # A space stays behind a character if another one comes before the text's end.
        behind = np.append(False, solid[:-1])
        place = np.arange(len(code))
        following = np.minimum.accumulate(np.where(solid, place, len(code))[::-1])[::-1]
        limit = np.repeat(separators, np.diff(separators, prepend=-1))
        kept = solid | (space & behind & (following < limit))
        kept[separators] = True
        code = np.where(space, np.uint32(ord(" ")), code)
        code[separators] = ord(SEPARATOR)
        return code[kept], np.flatnonzero(kept)

    def _spelled(self, text: str) -> tuple[str, Ints]:
        """Return the text without accents and capitals, as the rules are, and which character each comes from."""
        code = code_points(text)
        if self._rules.accents and not self._rules.lower:
            return text, np.arange(len(code))
        sizes = self._sizes[code]
        if (unseen := np.unique(code[sizes == _UNSEEN])).size:
            self._sizes[unseen] = [len(self._cased(self._plain[value])) for value in unseen.tolist()]
            sizes = self._sizes[code]
        # A final sigma depends on its neighbours, so the text is lower-cased as a whole; no length does.
        return self._cased(text.translate(self._plain)), np.repeat(np.arange(len(code)), sizes)

    def _cased(self, text: str) -> str:
        return text.lower() if self._rules.lower else text


def unchanged(texts: list[str]) -> Cleaned:
    """Return texts as they are."""
    places = np.arange(sum(map(len, texts)) + len(texts))
    return Cleaned(texts, places, places + 1)


def with_separators(texts: list[str]) -> str:
    """Return the texts in one, with a separator behind each."""
    return "".join(f"{text}{SEPARATOR}" for text in texts)


class _Plain(dict[int, str]):
    """Code point -> what it becomes; NFKD of a text is that of its characters, but for the order of their marks."""

    def __init__(self, accents: bool) -> None:
        super().__init__()
        self._accents = accents

    def __missing__(self, code: int) -> str:
        plain = chr(code)
        if not self._accents:
            plain = "".join(char for char in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(char))
        self[code] = plain
        return plain
