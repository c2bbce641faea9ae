"""What a tokenizer's engine says of texts -> pieces with exact spans: what all engines share."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.ranges import Ints, offsets
from preprocess.tokenizers.added import WrittenTokens
from preprocess.types import Pieces

#: Characters that an engine gets at once: enough for all its threads, few enough to stay small.
_CHARACTERS_PER_PART = 1 << 19
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
#: Ids, starts and ends of pieces, int64 [P] each, and how many each text has, int64 [n].
Columns = tuple[Ints, Ints, Ints, Ints]
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


def single_characters(tokens: Sequence[str], used: Collection[int]) -> set[int]:
    """Return the ids of the pieces that are a single character of used pieces.

    Args:
        tokens: the piece of each id.
        used: ids of pieces.
    """
    characters = {character for id in used for character in tokens[id]}
    return {id for id, token in enumerate(tokens) if token in characters}


def readable(text: str) -> str:
    """Return the text with U+FFFD for halves of surrogate pairs, which no engine takes."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the text's code points, uint32 [characters]."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.uint32, copy=False)


def bases(texts: Sequence[str]) -> Ints:
    """Return where each of the texts begins among all of them with a separator behind each, int64 [n]."""
    return offsets(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)[:-1]


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
    # White space in the middle of what one character became ("ﷺ" is four words) belongs to that character.
    return starts, np.maximum.accumulate(ends)


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


#: Cuts texts without added tokens, given whether each stands at the beginning of a text, bool [n].
Encode = Callable[[list[str], NDArray[np.bool_]], Columns]


def around(texts: list[str], looked_for: WrittenTokens, encode: Encode) -> Columns:
    """Encode texts with added tokens in them: what stands between these is cut as if it were a text.

    Args:
        texts: n texts.
        looked_for: the added tokens.
        encode: cuts what stands between them.
    """
    if not looked_for:
        return encode(texts, np.ones(len(texts), bool))
    between: list[str] = []
    owner: list[tuple[int, int, int]] = []  # order, text and start of what stands between
    found: list[tuple[int, int, int, int, int]] = []  # order, text, id, start and end of added tokens
    for index, text in enumerate(texts):
        at, strip = 0, False
        for start, end, token in (*looked_for.find(text, [(0, len(text))]), (len(text), len(text), None)):
            part = text[at:start]
            part = part.rstrip() if token is not None and token.lstrip else part
            stripped = part.lstrip() if strip else part
            owner.append((len(owner) + len(found), index, at + len(part) - len(stripped)))
            between.append(stripped)
            if token is not None:
                found.append((len(owner) + len(found), index, token.id, start, end))
                at, strip = end, token.rstrip
    owners = np.array(owner, np.int64).reshape(-1, 3)
    ids, starts, ends, counts = encode(between, owners[:, 2] == 0)
    order, text_of, shift = np.repeat(owners, counts, axis=0).T
    added = np.array(found, np.int64).reshape(-1, 5).T
    sequence = np.argsort(np.concatenate([order, added[0]]), kind="stable")
    columns = (ids, added[2]), (starts + shift, added[3]), (ends + shift, added[4])
    ids, starts, ends = (np.concatenate(column)[sequence] for column in columns)
    return ids, starts, ends, np.bincount(np.concatenate([text_of, added[1]]), minlength=len(texts))


def joined(columns: Sequence[Columns], vocab_size: int) -> Pieces:
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
