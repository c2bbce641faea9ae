"""Characters -> pieces: edges widen to whole pieces, dropped characters need none, nothing is guessed."""

from __future__ import annotations

import numpy as np
import pytest

from preprocess.align import align, spans_with_tails
from preprocess.types import Pieces

# text 0: "34个 x" -> "34", "个", "x"; text 1: nothing; text 2: two pieces of one Hangul syllable, then one more
SPANS = [[0, 2], [2, 3], [5, 6], [0, 1], [0, 1], [1, 2]]
PIECES = Pieces(np.arange(6), np.array(SPANS, np.int32), np.array([0, 3, 3, 6]))


@pytest.mark.parametrize(
    ("text", "char_start", "char_end", "expected"),
    [
        (0, 0, 3, (0, 1, False)),
        (0, 1, 3, (0, 1, True)),  # "4个" of "34个"
        (0, 0, 1, (0, 0, True)),
        (0, 2, 5, (1, 1, False)),  # white space behind the answer
        (0, 3, 6, (2, 2, False)),  # and before it
        (0, 3, 5, (-1, -1, False)),  # white space alone
        (0, 5, 6, (2, 2, False)),
        (0, 6, 9, (-1, -1, False)),  # behind the last piece: never a piece of the next text
        (1, 0, 4, (-1, -1, False)),
        (2, 0, 1, (0, 1, False)),
        (2, 1, 2, (2, 2, False)),
        (0, 2, 2, (-1, -1, False)),
    ],
)
def test_a_character_span_becomes_the_pieces_that_overlap_it(
    text: int, char_start: int, char_end: int, expected: tuple[int, int, bool]
) -> None:
    found = align(PIECES.spans, PIECES.splits, np.array([text]), np.array([char_start]), np.array([char_end]))
    assert (found.token_start[0], found.token_end[0], found.widened[0]) == expected


def test_many_spans_are_aligned_at_once_and_independently() -> None:
    found = align(
        PIECES.spans, PIECES.splits, np.array([2, 0, 1, 0]), np.array([1, 2, 0, 6]), np.array([2, 3, 9, 99])
    )
    assert found.token_start.tolist() == [2, 1, -1, -1] and found.token_end.tolist() == [2, 1, -1, -1]


def test_no_pieces_and_no_spans_are_no_error() -> None:
    empty = Pieces(np.empty(0, np.uint16), np.empty((0, 2), np.int32), np.array([0, 0]))
    assert align(empty.spans, empty.splits, np.array([0]), np.array([0]), np.array([1])).token_start.tolist() == [-1]
    nothing = np.empty(0, np.int64)
    assert len(align(PIECES.spans, PIECES.splits, nothing, nothing, nothing).token_start) == 0


@pytest.mark.parametrize(
    ("text", "spans", "expected"),
    [
        ("e\u0301b", [[0, 1], [2, 3]], [[0, 2], [2, 3]]),
        ("葛\U000e0100、", [[0, 1], [2, 3]], [[0, 2], [2, 3]]),  # a variation selector
        ("ก\u0e38\u0e38", [[0, 1]], [[0, 3]]),
        ("❤\u200d\ufe0f ", [[0, 1]], [[0, 3]]),
        ("🏴\U000e0067\U000e007f", [[0, 1]], [[0, 3]]),  # a flag
        ("三\ufffd说", [[0, 1], [2, 3]], [[0, 2], [2, 3]]),
        ("각\u0323a", [[0, 1], [0, 1], [0, 1], [2, 3]], [[0, 2], [0, 2], [0, 2], [2, 3]]),
        ("a \u0301b", [[0, 1], [3, 4]], [[0, 1], [3, 4]]),  # not directly behind it
        ("\u0301b", [[1, 2]], [[1, 2]]),
        ("三\u200b\ufeff说", [[0, 1], [3, 4]], [[0, 1], [3, 4]]),  # what separates belongs to nobody
        ("e\u0301", [[0, 2]], [[0, 2]]),  # cased: the accent is part of the piece
        ("", [], []),
    ],
)
def test_what_a_reader_sees_as_one_character_ends_with_its_marks(
    text: str, spans: list[list[int]], expected: list[list[int]]
) -> None:
    # Beside other texts: places count from the text's own beginning, and no mark of the next text is taken.
    before, behind = "甲\u0301", "\u0301乙"
    n = len(spans)
    piece_spans, splits = np.array([[0, 1], *spans, [1, 2]], np.int32), np.array([0, 1, n + 1, n + 2])
    assert spans_with_tails(piece_spans, splits, [before, text, behind]).tolist() == [[0, 2], *expected, [1, 2]]
    assert piece_spans[0].tolist() == [0, 1], "the pieces themselves stay"
