"""Examples -> windows, by hand on a ten-piece vocabulary and against brute force on random cases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.ranges import ranges
from preprocess.text.offsets import MappedText
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import NO_TARGET, Answer, Example, FeatureSet, Pieces
from preprocess.windows import cut_windows, max_context_ranges
from tests.support.values import encode

PAD, UNK, CLS, SEP = range(4)
LETTERS = "甲乙丙丁戊己庚辛问谁"
TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, *LETTERS, "ab", "##c"])
CONTEXT = "甲乙丙丁戊己庚辛"  # ids 4 to 11


def build(*cases: tuple[str, str, Answer | None], **params: Any) -> FeatureSet:
    examples = [Example(str(i), question, context) for i, (question, context, _) in enumerate(cases)]
    return encode(examples, [target for *_, target in cases], TOKENIZER, **params)


def rows(features: FeatureSet) -> list[list[int]]:
    return [row.tolist() for row in np.split(features.input_ids, features.row_splits[1:-1])]


def span(start: int, end: int) -> Answer:
    return Answer(CONTEXT[start:end], start, end)


def test_windows_start_every_doc_stride_and_stop_at_the_end_of_the_context() -> None:
    features = build(("问谁", CONTEXT, span(3, 5)), max_seq_length=9, doc_stride=2)  # 4 pieces of context each
    assert rows(features) == [
        [CLS, 12, 13, SEP, 4, 5, 6, 7, SEP],
        [CLS, 12, 13, SEP, 6, 7, 8, 9, SEP],
        [CLS, 12, 13, SEP, 8, 9, 10, 11, SEP],
    ]
    assert features.piece_start.tolist() == [0, 2, 4]
    assert features.doc_offset.tolist() == [4, 4, 4] and features.doc_length.tolist() == [4, 4, 4]
    # 丁戊 = pieces 3 and 4 stands whole in the second window only, at positions 5 and 6.
    assert features.targets["start"].tolist() == [0, 5, 0] and features.targets["end"].tolist() == [0, 6, 0]
    assert "kind" not in features.targets
    # Piece 2 has 1 to its right in window 0 and 0 to its left in window 1; piece 3 is a mirror image.
    assert features.max_context.tolist() == [[0, 3], [1, 3], [1, 4]]
    assert features.meta["max_seq_length"] == 9 and features.meta["pad_id"] == PAD
    assert features.input_ids.dtype == np.uint16


def test_the_last_window_is_as_short_as_the_rest_of_the_context() -> None:
    features = build(("问", CONTEXT[:6], None), max_seq_length=8, doc_stride=3)
    assert features.piece_start.tolist() == [0, 3] and features.doc_length.tolist() == [4, 3]


def test_a_stride_longer_than_a_window_leaves_no_gap() -> None:
    features = build(("问", CONTEXT, None), max_seq_length=7, doc_stride=100)
    assert features.piece_start.tolist() == [0, 3, 6] and features.doc_length.tolist() == [3, 3, 2]


def test_doc_overlap_is_what_two_windows_share_and_wins_over_doc_stride() -> None:
    features = build(("问", CONTEXT, None), max_seq_length=8, doc_stride=1, doc_overlap=2)
    assert features.piece_start.tolist() == [0, 2, 4] and features.doc_length.tolist() == [4, 4, 4]


def test_a_long_question_is_cut_and_counted() -> None:
    features = build(("问谁问谁", "甲", None), ("问", "甲", None), max_query_length=2)
    assert rows(features) == [[CLS, 12, 13, SEP, 4, SEP], [CLS, 12, SEP, 4, SEP]]
    assert features.meta["counts"]["query_truncated"] == 1


def test_shared_contexts_are_stored_once() -> None:
    features = build(("问", "甲乙", None), ("谁", "丙", None), ("谁", "甲乙", None))
    assert features.context_index.tolist() == [0, 1, 0] and features.example_index.tolist() == [0, 1, 2]
    assert features.piece_splits.tolist() == [0, 2, 3] and features.piece_spans.tolist() == [[0, 1], [1, 2], [0, 1]]
    assert features.meta["counts"]["n_contexts"] == 2


def test_empty_contexts_and_questions_have_a_window_each() -> None:
    features = build(("问", "", Answer("x")), ("", "甲", None), ("", "", None))
    assert rows(features) == [[CLS, 12, SEP, SEP], [CLS, SEP, 4, SEP], [CLS, SEP, SEP]]
    assert features.doc_length.tolist() == [0, 1, 0] and features.max_context.tolist() == [[0, 0], [0, 1], [0, 0]]


def test_no_examples_give_no_windows() -> None:
    assert len(build()) == 0


def test_answers_inside_pieces_are_widened_and_without_pieces_left_out() -> None:
    context = "甲abc 丙"  # pieces 甲, ab, ##c, 丙
    features = build(
        ("问", context, Answer("bc", 2, 4)),
        ("问", context, Answer("c ", 3, 5)),
        ("问", context, Answer(" ", 4, 5)),
        ("问", context, Answer("丁")),
        ("问", context, None),
    )
    assert features.targets["start"].tolist() == [4, 5, 0, 0, 0] and features.targets["end"].tolist() == [
        5,
        5,
        0,
        0,
        0,
    ]
    counts = features.meta["counts"]
    assert (counts["target_widened"], counts["target_without_piece"], counts["without_target"]) == (1, 1, 2)
    assert counts["target_span"] == 3


@pytest.mark.parametrize("tail", ["\ue863", "\u0378", "\U0002ebf0", "\u0301", "\ufe00", "\ufffd"])
def test_an_answer_may_end_in_a_character_without_a_piece_of_its_own(tail: str) -> None:
    # A character of the private use area, an unassigned one, a new CJK block, a mark, a selector, a lost character.
    context = f"甲乙{tail}丙"
    features = build(("问", context, Answer(f"乙{tail}", 1, 3)))
    first, last = features.targets["start"][0] - 3, features.targets["end"][0] - 3
    assert context[features.piece_spans[first, 0] : features.piece_spans[last, 1]] == f"乙{tail}"


def test_an_answer_longer_than_a_window_trains_in_none() -> None:
    features = build(("问", CONTEXT, span(0, 8)), ("问", CONTEXT, span(4, 5)), max_seq_length=8, doc_stride=2)
    counts = features.meta["counts"]
    assert counts["target_in_no_window"] == 1 and counts["target_not_in_first_window"] == 2
    assert not features.targets["end"][features.example_index == 0].any()


def test_other_kinds_of_answers_fill_the_kind_column() -> None:
    cases = [("问", CONTEXT, Answer("YES", kind="yes")), ("问", CONTEXT, span(0, 2)), ("问", CONTEXT, None)]
    features = build(*cases, max_seq_length=8, doc_stride=4, kinds=("unknown", "yes"))
    assert features.targets["kind"].tolist() == [1, 1, NO_TARGET, 0, NO_TARGET, NO_TARGET]
    assert features.targets["start"].tolist() == [0, 0, 3, 0, 0, 0]
    without_unknown = build(*cases, max_seq_length=8, doc_stride=4, kinds=("no", "yes"))
    assert without_unknown.targets["kind"].tolist() == [1, 1, NO_TARGET, NO_TARGET, NO_TARGET, NO_TARGET]
    with pytest.raises(DataError, match="target kind 'yes'"):
        build(*cases)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_seq_length": 5}, "raise it to 6 or more"),
        ({"max_seq_length": 0}, "leaves no room"),
        ({"doc_stride": 0}, "doc_stride 0 must be 1 or more"),
        ({"max_seq_length": 8, "doc_overlap": 3}, "doc_overlap 3 must be from 0 to 2"),
        ({"doc_overlap": -1}, "must be from 0"),
        ({"max_query_length": -1}, "negative"),
    ],
)
def test_impossible_parameters_are_one_clear_line(params: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        build(("问谁", CONTEXT, None), **params)


def test_ranges_count_up_from_each_start() -> None:
    assert ranges(np.array([5, 9, 2]), np.array([2, 0, 3])).tolist() == [5, 6, 2, 3, 4]
    assert ranges(np.array([], int), np.array([], int)).tolist() == []


def one_by_one(example: Example, target: Answer | None, length: int, step: int, query: int) -> list[tuple]:
    """The windows of one example, made the slow way."""
    vocab = TOKENIZER.vocab
    pieces = [(vocab[letter], place) for place, letter in enumerate(example.context) if letter != " "]
    question = [vocab[letter] for letter in example.question if letter != " "][:query]
    room, start, windows = length - len(question) - 3, 0, []
    covered = [i for i, (_, place) in enumerate(pieces) if target and target.char_start <= place < target.char_end]
    while True:
        part = pieces[start : start + room]
        row = [CLS, *question, SEP, *[piece for piece, _ in part], SEP]
        held = bool(covered) and start <= covered[0] and covered[-1] < start + len(part)
        shift = len(question) + 2 - start
        windows.append((row, *((covered[0] + shift, covered[-1] + shift) if held else (0, 0))))
        if start + room >= len(pieces):
            return windows
        start += min(step, room)


def test_random_examples_give_the_windows_made_one_by_one() -> None:
    random = np.random.default_rng(0)

    def text(low: int, high: int) -> str:
        return "".join(random.choice(list(LETTERS + " "), random.integers(low, high)))

    for _ in range(200):
        contexts = [text(0, 40) for _ in range(3)]
        examples = [Example(str(i), text(0, 12), contexts[random.integers(3)]) for i in range(4)]
        targets: list[Answer | None] = [None]
        for example in examples[1:]:
            start, end = sorted(random.integers(0, len(example.context) + 1, 2).tolist())
            targets.append(Answer(example.context[start:end], start, end))
        query, step = int(random.integers(0, 9)), int(random.integers(1, 20))
        length = int(random.integers(query + 4, 30))
        features = encode(
            examples, targets, TOKENIZER, max_seq_length=length, doc_stride=step, max_query_length=query
        )
        expected = [w for e, t in zip(examples, targets, strict=True) for w in one_by_one(e, t, length, step, query)]
        labels = zip(features.targets["start"].tolist(), features.targets["end"].tolist(), strict=True)
        assert [(row, *label) for row, label in zip(rows(features), labels, strict=True)] == expected


def brute_force_owner(starts: list[int], lengths: list[int]) -> list[int]:
    """The original rule, piece by piece: which window owns each piece."""
    owners = []
    for piece in range(starts[-1] + lengths[-1]):
        best, best_score = -1, -1.0
        for window, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            if start <= piece < start + length:
                score = min(piece - start, start + length - 1 - piece) + 0.01 * length
                if score > best_score:
                    best, best_score = window, score
        owners.append(best)
    return owners


def test_max_context_equals_the_original_rule_on_random_windows() -> None:
    random = np.random.default_rng(0)
    n_windows = 0
    for _ in range(1500):
        room = int(random.integers(1, 400))
        step = int(random.integers(1, room + 1)) if room < 60 else int(random.integers(room // 8 + 1, room + 1))
        total = int(random.integers(1, 4 * room))
        starts = list(range(0, max(1, total - room + step), step))
        lengths = [min(room, total - start) for start in starts]
        found = max_context_ranges(np.zeros(len(starts), np.int64), np.array(starts), np.array(lengths))
        owners = np.array(brute_force_owner(starts, lengths))
        n_windows += len(starts)
        for window, (low, high) in enumerate(found.tolist()):
            expected = np.flatnonzero(owners == window) - starts[window]
            assert list(range(low, high)) == expected.tolist(), (room, step, total, window)
    assert n_windows > 5000


def test_max_context_never_looks_at_another_example() -> None:
    found = max_context_ranges(np.array([0, 0, 1]), np.array([0, 3, 0]), np.array([5, 5, 5]))
    assert found.tolist() == [[0, 4], [1, 5], [0, 5]]


@pytest.mark.parametrize(
    ("place", "held"),
    [(0, (0, 4)), (2, (0, 4)), (3, (1, 5)), (5, (3, 7)), (7, (4, 8))],
)
def test_one_window_lies_around_a_place(place: int, held: tuple[int, int]) -> None:
    features = cut_windows(["问谁"], [CONTEXT], TOKENIZER, max_seq_length=9, doc_stride=2, around=[place])
    first, last = held
    assert rows(features) == [[CLS, 12, 13, SEP, *range(4 + first, 4 + last), SEP]]
    assert features.piece_start.tolist() == [first] and features.doc_length.tolist() == [4]


def test_a_window_around_a_place_holds_all_of_a_short_context() -> None:
    features = cut_windows(["问", "谁谁"], ["甲乙", "甲乙"], TOKENIZER, max_seq_length=9, around=[0, 1])
    assert rows(features) == [[CLS, 12, SEP, 4, 5, SEP], [CLS, 13, 13, SEP, 4, 5, SEP]]


class Halved:
    """Leaves out every 甲, and converts 乙丙 to 丁 as one."""

    name = "halved"

    def __call__(self, text: str) -> MappedText:
        kept = [(match[0].replace("乙丙", "丁"), *match.span()) for match in re.finditer("乙丙|[^甲]", text)]
        starts, ends = (np.array([part[side] for part in kept], np.int32) for side in (1, 2))
        return MappedText("".join(part[0] for part in kept), starts, ends)


class Underlined:
    """Cuts a text into its characters, with a piece of none before each, and one at the end."""

    special_ids: ClassVar[dict[str, int]] = TOKENIZER.special_ids

    def encode(self, texts: Sequence[str]) -> Pieces:
        places = [[(i // 2, (i + 1) // 2) for i in range(2 * len(text) + 1)] for text in texts]
        spans = np.array([span for of_text in places for span in of_text], np.int32).reshape(-1, 2)
        splits = np.cumsum([0, *map(len, places)])
        return Pieces(np.full(len(spans), 4, np.uint16), spans, splits)


def test_pieces_of_derived_texts_stand_in_the_published_ones_whatever_is_empty() -> None:
    contexts = ["", "甲乙丙戊甲", "甲", "戊"]
    features = cut_windows([""] * 4, contexts, Underlined(), transform=Halved(), max_seq_length=20)  # type: ignore[arg-type]
    spans = [part.tolist() for part in np.split(features.piece_spans, features.piece_splits[1:-1])]
    assert spans == [
        [[0, 0]],
        [[1, 1], [1, 3], [3, 3], [3, 4], [4, 4]],
        [[0, 0]],
        [[0, 0], [0, 1], [1, 1]],
    ]
