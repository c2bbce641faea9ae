"""The way back through a normalizer of the `tokenizers` library, of which only the resulting text is right.

Its own offsets are one too low behind a control character at the beginning of a text, and inside a character with
marks they point at the wrong one. So the library is asked for texts alone, and what came from where is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from preprocess.ranges import Ints, offsets
from preprocess.tokenizers.cleaning import Cleaned, with_separators
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
        self._alone = _Alone(normalize)
        self._sizes = np.full(0x110000, _UNSEEN, np.uint8)

    def apply(self, texts: list[str]) -> Cleaned:
        """Normalise texts.

        Args:
            texts: n strings without halves of surrogate pairs.
        """
        code = code_points(with_separators(texts))
        sizes = self._sizes[code]
        if (unseen := np.unique(code[sizes == _UNSEEN])).size:
            self._sizes[unseen] = [len(self._alone[value]) for value in unseen.tolist()]
            sizes = self._sizes[code]
        edges = offsets(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)
        sizes[edges[1:] - 1] = 1  # the separators
        normal = [self._normalize(text) for text in texts]
        starts = np.repeat(np.arange(len(code)), sizes)
        ends = starts + 1
        together = [i for i, text in enumerate(texts) if text.translate(self._alone) != normal[i]]
        if together:
            starts, ends = self._replaced(texts, normal, together, edges, (starts, ends))
        return Cleaned(normal, starts, ends)

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


class _Alone(dict[int, str]):
    """Code point -> what the character becomes alone."""

    def __init__(self, normalize: Callable[[str], str]) -> None:
        super().__init__()
        self._normalize = normalize

    def __missing__(self, code: int) -> str:
        self[code] = normal = self._normalize(chr(code))
        return normal
