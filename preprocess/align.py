"""Answer characters -> word pieces, vectorised; what does not fit is widened or left out, and counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
