"""Characters <-> word pieces, vectorised; what does not fit is widened or left out, and counted."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.ranges import offsets

# Below it, no character belongs to the one before it.
_FIRST_MARK = 0x300


@dataclass(frozen=True, slots=True)
class PieceSpans:
    """The pieces that cover n character spans.

    Args:
        token_start: int64 [n], first piece, counted within its text; -1 where no piece covers a character.
        token_end: int64 [n], last piece (inclusive); -1 likewise.
        widened: bool [n], the pieces cover more characters than the span: an edge lies inside a piece.
    """

    token_start: NDArray[np.int64]
    token_end: NDArray[np.int64]
    widened: NDArray[np.bool_]


def align(
    piece_spans: NDArray[np.int32],
    piece_splits: NDArray[np.int64],
    text_index: NDArray[np.int64],
    char_start: NDArray[np.int64],
    char_end: NDArray[np.int64],
) -> PieceSpans:
    """Find the pieces that overlap character spans.

    An edge inside a piece takes the whole piece; characters that the tokenizer drops (white space, control
    characters) need no piece.

    Args:
        piece_spans: [n_pieces, 2], half-open code-point spans of the pieces of all texts; they never run backwards.
        piece_splits: [n_texts + 1]; text i holds pieces piece_splits[i] to piece_splits[i + 1].
        text_index: [n], the text of each span.
        char_start: [n], first code point of each span.
        char_end: [n], one past the last code point.
    """
    n_pieces = len(piece_spans)
    # One axis for all texts: each text starts behind the last character of a piece (or span) of the one before.
    widths = np.zeros(len(piece_splits), np.int64)
    filled = np.flatnonzero(np.diff(piece_splits))
    widths[filled + 1] = piece_spans[piece_splits[filled + 1] - 1, 1]
    np.maximum.at(widths, text_index + 1, char_end)
    base = np.cumsum(widths)
    piece_base = np.repeat(base[:-1], np.diff(piece_splits))
    first = np.searchsorted(piece_spans[:, 1] + piece_base, char_start + base[text_index], side="right")
    last = np.searchsorted(piece_spans[:, 0] + piece_base, char_end + base[text_index], side="left") - 1
    covered = (first <= last) & (char_start < char_end)
    if not n_pieces:
        nowhere = np.full(len(text_index), -1, np.int64)
        return PieceSpans(nowhere, nowhere, np.zeros(len(text_index), bool))
    safe_first, safe_last = np.minimum(first, n_pieces - 1), np.maximum(last, 0)
    widened = (piece_spans[safe_first, 0] < char_start) | (piece_spans[safe_last, 1] > char_end)
    offset = piece_splits[text_index]
    return PieceSpans(np.where(covered, first - offset, -1), np.where(covered, last - offset, -1), covered & widened)


def spans_with_tails(
    piece_spans: NDArray[np.int32], piece_splits: NDArray[np.int64], texts: Sequence[str]
) -> NDArray[np.int32]:
    """Return the pieces' spans such that an answer never loses half of what a reader sees as its last character.

    Tokenizers drop accents, variation selectors and joiners, as if they were not there. A piece that stands directly
    before some gets them. So does one before U+FFFD, the sign of a character that was lost: it can be seen, and
    belongs to the word before it more often than not.

    Args:
        piece_spans: [P, 2], of n texts.
        piece_splits: [n + 1], which pieces are of which text.
        texts: the n texts.

    Returns:
        int32 [P, 2]; only ends differ from `piece_spans`.
    """
    code = np.frombuffer("".join([*texts, " "]).encode("utf-32-le", "surrogatepass"), "<u4")
    edges = offsets(np.fromiter(map(len, texts), np.int64, len(texts)))
    base = np.repeat(edges[:-1], np.diff(piece_splits))
    ends = piece_spans[:, 1] + base
    # Up to the next piece, or the end of the text.
    limits = np.append(piece_spans[1:, 0] + base[1:], 0)
    filled = np.diff(piece_splits) > 0
    limits[piece_splits[1:][filled] - 1] = edges[1:][filled]
    spans = piece_spans
    for piece in np.flatnonzero((ends < limits) & (code[ends] >= _FIRST_MARK)).tolist():
        end = int(ends[piece])
        while end < limits[piece] and _belongs_to_the_one_before(chr(code[end])):
            end += 1
        if end > ends[piece]:
            spans = piece_spans.copy() if spans is piece_spans else spans
            # A character that became several pieces ends all of them.
            first = np.searchsorted(ends[: piece + 1], ends[piece])
            spans[first : piece + 1, 1] = end - base[piece]
    return spans


def _belongs_to_the_one_before(char: str) -> bool:
    is_tag = "\U000e0020" <= char <= "\U000e007f"  # of an emoji flag
    return unicodedata.category(char) in ("Mn", "Me") or char in "\u200c\u200d\ufffd\uff9e\uff9f" or is_tag
