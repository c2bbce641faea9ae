"""What a tokenizer's engine says of texts -> pieces with exact spans: what all engines share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.ranges import Ints, offsets
from preprocess.types import Pieces

#: Characters that an engine gets at once: enough for all its threads, few enough to stay small.
_CHARACTERS_PER_PART = 1 << 19
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_N_CODE_POINTS = 0x110000
_UNSEEN = 2


class BlankCharacters:
    """Knows of each character whether a tokenizer makes nothing or white space of it: no span begins or ends there.

    Args:
        is_blank: says it of one character; asked once for each.
    """

    def __init__(self, is_blank: Callable[[str], bool]) -> None:
        """Begin with no character known."""
        self._is_blank = is_blank
        self._known = np.full(_N_CODE_POINTS, _UNSEEN, np.uint8)

    def __getitem__(self, code: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Return bool [n] for code points [n]."""
        blank = self._known[code]
        if (unseen := np.unique(code[blank == _UNSEEN])).size:
            self._known[unseen] = [self._is_blank(chr(value)) for value in unseen.tolist()]
            blank = self._known[code]
        return blank.astype(bool)


def readable(text: str) -> str:
    """Return the text with U+FFFD for halves of surrogate pairs, which no engine takes."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the text's code points, uint32 [characters]."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.uint32, copy=False)


def trimmed(starts: Ints, ends: Ints, blank: NDArray[np.bool_], bare: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Return spans without blank characters at their edges.

    Args:
        starts: [P], where in a text of n characters pieces begin.
        ends: [P], where they end.
        blank: [n], which characters are no part of a piece that begins or ends with them.
        bare: [P], which pieces stand for white space alone, real or put before a word: they have no character. An
            engine that puts white space before a word gives it the place of the word's first character.
    """
    n = len(blank)
    place = np.arange(n + 1)
    seen = np.append(~blank, True)
    first = np.minimum.accumulate(np.where(seen, place, n)[::-1])[::-1]  # the next character that is not blank
    last = np.maximum.accumulate(np.where(np.insert(~blank, 0, True), place, 0))  # the end of the last that is not
    starts = np.minimum(first[starts], ends)
    ends = np.where(bare, starts, np.maximum(last[ends], starts))
    return starts, ends


def parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Cut texts into parts of about `_CHARACTERS_PER_PART`, each readable for engines."""
    part: list[str] = []
    n_characters = 0
    for text in texts:
        part.append(readable(text))
        n_characters += len(text)
        if n_characters >= _CHARACTERS_PER_PART:
            yield part
            part, n_characters = [], 0
    if part:
        yield part


def joined(columns: Sequence[tuple[Ints, Ints, Ints, Ints]], vocab_size: int) -> Pieces:
    """Return the pieces of all parts.

    Args:
        columns: of each part, the pieces' ids, their starts and ends [P] in their own texts, and how many pieces each
            text has [n].
        vocab_size: one more than the largest id.
    """
    nothing = (np.empty(0, np.int64),) * 4
    ids, starts, ends, counts = (np.concatenate(column) for column in zip(nothing, *columns, strict=True))
    dtype: Any = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    return Pieces(ids.astype(dtype), np.stack([starts, ends], axis=1).astype(np.int32), offsets(counts))
