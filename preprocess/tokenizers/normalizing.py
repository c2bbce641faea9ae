"""The way back through a normalizer of the `tokenizers` library, of which only the resulting text is right.

Its own offsets are one too low behind a control character at the beginning of a text, and inside a character with
marks they point at the wrong one. So the library is asked for texts alone, and what came from where is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from preprocess.ranges import Ints, offsets, ranges
from preprocess.tokenizers.cleaning import SEPARATOR, Cleaned, with_separators
from preprocess.tokenizers.pieces import code_points

_UNSEEN = 255
#: Characters on either side that say whether something reaches over a border: the longest that is replaced as one.
_REACH = 16


class Aligner:
    """Normalises texts and finds which characters became which.

    Where every character alone becomes what it becomes in the text, they are mapped one by one; else characters
    that only became what they did together (a letter with its accents, "``" that became a quotation mark) are mapped
    as one.

    Args:
        normalize: text -> normalised text; what becomes of a character depends on few characters around it.
    """

    def __init__(self, normalize: Callable[[str], str]) -> None:
        """Prepare a table of characters, which fills as they are met."""
        self._normalize = normalize
        self._sizes = np.full(0x110000, _UNSEEN, np.uint8)
        self._places = np.zeros(0x110000, np.int64)
        #: What characters become alone, one after the other; the separator is first.
        self._pool = code_points(SEPARATOR)

    def apply(self, texts: list[str]) -> Cleaned:
        """Normalise texts.

        Args:
            texts: n strings without halves of surrogate pairs.
        """
        normal = [self._normalize(text) for text in texts]
        edges = offsets(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)
        spelled, sizes = self._alone(code_points(with_separators(texts)), edges[1:] - 1)
        starts = np.repeat(np.arange(len(sizes)), sizes)
        ends = starts + 1
        if together := _different(spelled, np.searchsorted(starts, edges), normal):
            starts, ends = self._replaced(texts, normal, together, edges, (starts, ends))
        return Cleaned(normal, starts, ends)

    def _alone(self, code: NDArray[np.uint32], separators: Ints) -> tuple[NDArray[np.uint32], Ints]:
        """Return what characters become alone, one after the other, and how many each becomes; separators stay."""
        unseen = np.unique(code[self._sizes[code] == _UNSEEN])
        if unseen.size:
            normal = [self._normalize(chr(value)) for value in unseen.tolist()]
            sizes = np.fromiter(map(len, normal), np.int64, len(normal))
            self._sizes[unseen] = sizes
            self._places[unseen] = len(self._pool) + offsets(sizes)[:-1]
            self._pool = np.concatenate([self._pool, code_points("".join(normal))])
        sizes, places = self._sizes[code].astype(np.int64), self._places[code]
        sizes[separators], places[separators] = 1, 0
        return self._pool[ranges(places, sizes)], sizes

    def _replaced(
        self, texts: list[str], normal: list[str], together: list[int], edges: Ints, alone: tuple[Ints, Ints]
    ) -> tuple[Ints, Ints]:
        """Return starts and ends with those of some texts found anew."""
        places = np.searchsorted(alone[0], edges)  # where each text's characters begin among the normalised ones
        columns: list[tuple[Ints, Ints]] = []
        at = 0
        for index in together:
            columns.append((alone[0][at : places[index]], alone[1][at : places[index]]))
            first, last = self._units(texts[index], normal[index])
            columns.append((first + edges[index], last + edges[index]))
            at = places[index + 1] - 1  # the separator
        columns.append((alone[0][at:], alone[1][at:]))
        starts, ends = (np.concatenate(column) for column in zip(*columns, strict=True))
        return starts, ends

    def _units(self, text: str, normal: str) -> tuple[Ints, Ints]:
        """Return where the characters of a normalised text begin and end in the text."""
        for borders in (self._borders(text), [0, len(text)]):
            sizes = [len(self._normalize(text[first:last])) for first, last in pairwise(borders)]
            if sum(sizes) == len(normal):
                break
        edges = np.array(borders, np.int64)
        return np.repeat(edges[:-1], sizes), np.repeat(edges[1:], sizes)

    def _borders(self, text: str) -> list[int]:
        """Return the places at which a text can be cut and its parts normalised apart, with both of its ends."""
        return [0, *self._cuts(text), len(text)]

    def _cuts(self, text: str) -> Iterator[int]:
        for place in range(1, len(text)):
            before, after = text[max(0, place - _REACH) : place], text[place : place + _REACH]
            if self._normalize(before) + self._normalize(after) == self._normalize(before + after):
                yield place


def _different(spelled: NDArray[np.uint32], edges: Ints, normal: list[str]) -> list[int]:
    """Return which normalised texts are not what their characters become alone.

    Args:
        spelled: what these become, texts one after the other with separators.
        edges: [n + 1], where each text begins there.
        normal: the n normalised texts.
    """
    code, sizes = code_points(with_separators(normal)), np.fromiter(map(len, normal), np.int64, len(normal)) + 1
    if np.array_equal(spelled, code):
        return [] if np.array_equal(np.diff(edges), sizes) else list(range(len(normal)))
    theirs = offsets(sizes)
    parts = zip(pairwise(edges.tolist()), pairwise(theirs.tolist()), strict=True)
    return [i for i, (own, its) in enumerate(parts) if not np.array_equal(spelled[slice(*own)], code[slice(*its)])]
