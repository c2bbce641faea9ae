"""Span decoding: the rules by hand, against a plain loop, and against the original program's output."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.types import Example, FeatureSet, Outputs
from tasks.core.nbest import nbest_json
from tasks.core.prediction import Candidate, DecodeOptions
from tasks.problems.span import SpanProblem, decode_spans
from tests.support.values import encode, span_features, span_outputs

QUESTION = 2  # [CLS] question [SEP]: three positions stand before the context


def build(
    contexts: Sequence[str], windows: Sequence[tuple[int, int, int, int, int]]
) -> tuple[list[Example], FeatureSet]:
    """One piece per character; a window is (example, first piece, n pieces, max-context from, to)."""
    examples = [Example(f"q{i}", "?", context) for i, context in enumerate(contexts)]
    table = np.array(windows, dtype=np.int32)
    lengths = table[:, 2] + QUESTION + 2
    spans = [(i, i + 1) for context in contexts for i in range(len(context))]
    features = span_features(
        input_ids=np.zeros(lengths.sum(), np.uint16),
        row_splits=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        example_index=table[:, 0],
        doc_offset=np.full(len(table), QUESTION + 1, np.int32),
        doc_length=table[:, 2],
        piece_start=table[:, 1],
        max_context=table[:, 3:],
        start=np.zeros(len(table), np.int32),
        end=np.zeros(len(table), np.int32),
        context_index=table[:, 0],
        piece_spans=np.array(spans, np.int32),
        piece_splits=np.concatenate([[0], np.cumsum([len(c) for c in contexts])]).astype(np.int64),
        meta={},
    )
    return examples, features


def peaks(width: int, rows: Sequence[tuple[dict[int, float], dict[int, float]]]) -> Outputs:
    """Outputs of -9 everywhere, but for the given positions of the context (its first piece is 0)."""
    start, end = (np.full((len(rows), width), -9.0, np.float32) for _ in range(2))
    for row, (starts, ends) in enumerate(rows):
        for position, value in starts.items():
            start[row, position + QUESTION + 1] = value
        for position, value in ends.items():
            end[row, position + QUESTION + 1] = value
    return span_outputs(np.arange(len(rows), dtype=np.int32), start, end)


def decode_slowly(
    examples: Sequence[Example], features: FeatureSet, logits: Outputs, options: DecodeOptions
) -> dict[str, list[tuple[str, float, float, float]]]:
    """The rules as a loop over all pairs."""
    found: dict[str, list[Any]] = {example.id: [] for example in examples}
    for window in range(len(features)):
        example = int(features.example_index[window])
        row = int(np.flatnonzero(logits.window == window)[0])
        length, offset = int(features.lengths[window]), int(features.doc_offset[window])
        start_logit, end_logit = (
            logits.values["start"][row, :length].tolist(),
            logits.values["end"][row, :length].tolist(),
        )
        ranked = [
            sorted(range(length), key=values.__getitem__, reverse=True)[: options.n_best_size]
            for values in (start_logit, end_logit)
        ]
        first = int(features.piece_splits[features.context_index[window]] + features.piece_start[window]) - offset
        low, high = (features.max_context[window] + offset).tolist()
        for start, end in itertools.product(*ranked):
            inside = offset <= start and end < offset + features.doc_length[window] and low <= start < high
            if inside and start <= end < start + options.max_answer_length:
                span = features.piece_spans[first + start, 0], features.piece_spans[first + end, 1]
                text = examples[example].context[span[0] : span[1]]
                found[examples[example].id].append((text, start_logit[start], end_logit[end]))
    result = {}
    for question, candidates in found.items():
        candidates.sort(key=lambda entry: entry[1] + entry[2], reverse=True)
        kept: dict[str, tuple[float, float]] = {}
        for text, start, end in candidates:
            if len(kept) < options.n_best_size:
                kept.setdefault(text, (start, end))
        kept = kept or {"": (0.0, 0.0)}
        total = sum(math.exp(start + end) for start, end in kept.values())
        result[question] = [(t, math.exp(s + e) / total, s, e) for t, (s, e) in kept.items()]
    return result


def random_case(seed: int, ties: bool) -> tuple[list[Example], FeatureSet, Outputs]:
    random = np.random.RandomState(seed)
    contexts = ["".join(random.choice(list("甲乙丙丁"), random.randint(5, 30))) for _ in range(6)]
    windows = []
    for example, context in enumerate(contexts):
        step, size = 6, 12
        starts = range(0, max(1, len(context) - size + step), step)
        for first in starts:
            length = min(size, len(context) - first)
            windows.append((example, first, length, 0 if first == 0 else 3, length if first == starts[-1] else 9))
    examples, features = build(contexts, windows)
    shape = len(windows), int(features.lengths.max()) + random.randint(0, 9)
    draw = (lambda: random.randint(-2, 3, shape)) if ties else (lambda: random.normal(0, 2, shape))
    start, end = (draw().astype(np.float32) for _ in range(2))
    return examples, features, span_outputs(np.arange(len(windows), dtype=np.int32), start, end)


def split(logits: Outputs, order: Iterable[int], size: int) -> list[Outputs]:
    rows = np.array(list(order))
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [
        span_outputs(logits.window[part], logits.values["start"][part], logits.values["end"][part]) for part in parts
    ]


def test_best_pair_is_a_slice_of_the_context() -> None:
    examples, features = build(["他生于北京市。"], [(0, 0, 7, 0, 7)])
    logits = peaks(12, [({3: 5.0}, {4: 4.0, 5: 3.0})])
    prediction = decode_spans(examples, features, [logits], DecodeOptions(n_best_size=3))["q0"]
    assert (prediction.text, prediction.char_start, prediction.char_end, prediction.kind) == ("北京", 3, 5, "span")
    assert prediction.score == 9.0
    assert [candidate.text for candidate in prediction.nbest][:2] == ["北京", "北京市"]
    odds = prediction.nbest[0].probability / prediction.nbest[1].probability
    assert odds == pytest.approx(math.e)
    assert sum(candidate.probability for candidate in prediction.nbest) == pytest.approx(1.0)


def test_span_ending_before_its_start_is_never_decoded() -> None:
    examples, features = build(["甲乙丙丁"], [(0, 0, 4, 0, 4)])
    logits = peaks(10, [({3: 9.0, 1: 1.0}, {0: 9.0, 2: 1.0})])
    assert SpanProblem().best_answers(examples, features, [logits], DecodeOptions(n_best_size=2)) == {"q0": "乙丙"}


def test_answer_of_exactly_the_maximum_length_is_decoded() -> None:
    examples, features = build(["甲乙丙丁戊"], [(0, 0, 5, 0, 5)])
    logits = peaks(10, [({0: 9.0}, {3: 9.0, 2: 8.0})])
    for length, text in ((4, "甲乙丙丁"), (3, "甲乙丙")):
        options = DecodeOptions(n_best_size=2, max_answer_length=length)
        assert SpanProblem().best_answers(examples, features, [logits], options) == {"q0": text}


def test_start_counts_only_in_the_window_where_its_context_is_largest() -> None:
    examples, features = build(["甲乙丙丁戊己"], [(0, 0, 4, 0, 3), (0, 2, 4, 1, 4)])
    # Window 0 shouts for 丁 (its piece 3), which belongs to window 1; there 丁 is piece 1.
    logits = peaks(9, [({3: 99.0, 0: 2.0}, {3: 2.0, 0: 1.0}), ({1: 4.0}, {2: 4.0})])
    prediction = decode_spans(examples, features, [logits], DecodeOptions())["q0"]
    assert (prediction.text, prediction.nbest[0].start_logit) == ("丁戊", 4.0)


def test_question_and_padding_are_never_answers() -> None:
    examples, features = build(["甲乙丙"], [(0, 0, 3, 0, 3)])
    logits = peaks(20, [({-2: 50.0, 3: 50.0, 4: 99.0, 9: 99.0, 1: 1.0}, {-1: 50.0, 3: 50.0, 9: 99.0, 1: 1.0})])
    assert SpanProblem().best_answers(examples, features, [logits], DecodeOptions())["q0"] == "乙"


def test_what_stands_at_padding_is_not_read() -> None:
    examples, features, logits = random_case(5, ties=False)
    padding = np.arange(logits.values["start"].shape[1]) >= features.lengths[:, None]
    for junk in (np.nan, np.inf, 99.0, -99.0):
        start, end = (
            np.where(padding, np.float32(junk), values) for values in (logits.values["start"], logits.values["end"])
        )
        noisy = span_outputs(logits.window, start, end)
        assert decode_spans(examples, features, [noisy], DecodeOptions()) == decode_spans(
            examples, features, [logits], DecodeOptions()
        )


def test_question_without_a_valid_span_gets_one_empty_candidate() -> None:
    examples, features = build(["甲乙", "丙丁"], [(0, 0, 2, 0, 2), (1, 0, 2, 0, 2)])
    logits = peaks(8, [({1: 5.0}, {0: 5.0}), ({0: 1.0}, {1: 1.0})])
    options = DecodeOptions(n_best_size=1)
    predictions = decode_spans(examples, features, [logits], options)
    assert predictions["q0"].nbest == (Candidate("", -1, -1, 1.0, 0.0, 0.0),)
    assert (predictions["q0"].text, predictions["q0"].score) == ("", 0.0)
    assert SpanProblem().best_answers(examples, features, [logits], options) == {"q0": "", "q1": "丙丁"}


def test_a_piece_without_a_character_is_no_edge_of_an_answer() -> None:
    # As "甲 ▁ 乙丙": a "▁" that stands for the blank alone is the second piece.
    examples, features = build(["甲 乙丙"], [(0, 0, 4, 0, 4)])
    spans = np.array([(0, 1), (2, 2), (2, 3), (3, 4)], np.int32)
    features = replace(features, piece_spans=spans)
    logits = peaks(8, [({1: 9.0, 2: 5.0}, {1: 9.0, 3: 5.0, 0: 1.0})])
    options = DecodeOptions(n_best_size=8)
    assert SpanProblem().best_answers(examples, features, [logits], options) == {"q0": "乙丙"}
    listed = decode_spans(examples, features, [logits], options)["q0"].nbest
    assert all(entry.text and entry.text == entry.text.strip() for entry in listed)
    # As the only piece that scores, it leaves no answer rather than an empty one.
    only = replace(features, max_context=np.array([[1, 2]], np.int32))
    assert decode_spans(examples, only, [logits], options)["q0"].char_start == -1


def test_texts_of_the_list_are_distinct_and_the_best_place_is_kept() -> None:
    examples, features = build(["北京和北京"], [(0, 0, 5, 0, 5)])
    logits = peaks(10, [({0: 3.0, 3: 5.0}, {1: 3.0, 4: 5.0})])
    prediction = decode_spans(examples, features, [logits], DecodeOptions(n_best_size=2))["q0"]
    assert [(c.text, c.char_start) for c in prediction.nbest] == [("北京", 3), ("北京和北京", 0)]


def test_equal_scores_keep_window_then_start_then_end_order() -> None:
    examples, features = build(["甲乙丙丁戊己"], [(0, 0, 3, 0, 3), (0, 3, 3, 0, 3)])
    same = {0: 1.0, 1: 1.0, 2: 1.0}
    logits = peaks(8, [(same, same), (same, same)])
    prediction = decode_spans(examples, features, [logits], DecodeOptions(n_best_size=12))["q0"]
    texts = ["甲", "甲乙", "甲乙丙", "乙", "乙丙", "丙", "丁", "丁戊", "丁戊己", "戊", "戊己", "己"]
    assert [c.text for c in prediction.nbest] == texts


def test_equal_sums_prefer_the_higher_start() -> None:
    examples, features = build(["甲乙丙"], [(0, 0, 3, 0, 3)])
    logits = peaks(8, [({0: 1.0, 2: 3.0}, {0: 3.0, 2: 1.0})])
    assert SpanProblem().best_answers(examples, features, [logits], DecodeOptions(n_best_size=2)) == {"q0": "丙"}


def test_positions_tied_for_the_last_place_are_taken_from_the_left() -> None:
    examples, features = build(["甲乙丙丁"], [(0, 0, 4, 0, 4)])
    logits = peaks(9, [({1: 1.0, 2: 1.0, 3: 1.0}, {1: 1.0, 2: 1.0, 3: 1.0})])
    prediction = decode_spans(examples, features, [logits], DecodeOptions(n_best_size=2))["q0"]
    assert [c.text for c in prediction.nbest] == ["乙", "乙丙"]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("options", [DecodeOptions(), DecodeOptions(3, 4), DecodeOptions(1, 2), DecodeOptions(8, 1)])
def test_both_paths_equal_a_plain_loop(ties: bool, options: DecodeOptions) -> None:
    for seed in range(12):
        examples, features, logits = random_case(seed, ties)
        expected = decode_slowly(examples, features, logits, options)
        predictions = decode_spans(examples, features, [logits], options)
        for question, entries in expected.items():
            nbest = predictions[question].nbest
            assert [(c.text, c.start_logit, c.end_logit) for c in nbest] == [(t, s, e) for t, _, s, e in entries]
            assert [c.probability for c in nbest] == pytest.approx([p for _, p, _, _ in entries], abs=1e-12)
            for candidate in nbest:
                context = examples[int(question[1:])].context
                assert context[max(candidate.char_start, 0) : max(candidate.char_end, 0)] == candidate.text
        best = SpanProblem().best_answers(examples, features, [logits], options)
        assert best == {question: prediction.text for question, prediction in predictions.items()}


@pytest.mark.parametrize("ties", [False, True])
def test_batches_in_any_order_give_the_same_predictions(ties: bool) -> None:
    examples, features, logits = random_case(3, ties)
    expected = decode_spans(examples, features, [logits], DecodeOptions(5))
    for seed in range(5):
        order = np.random.RandomState(seed).permutation(len(features)).tolist()
        batches = split(logits, order, 4)
        assert decode_spans(examples, features, batches, DecodeOptions(5)) == expected
        assert SpanProblem().best_answers(examples, features, iter(batches), DecodeOptions(5)) == {
            question: prediction.text for question, prediction in expected.items()
        }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("decode", [decode_spans, SpanProblem().best_answers])
def test_logits_that_are_not_finite_are_refused(value: float, decode: Any) -> None:
    examples, features, logits = random_case(0, ties=False)
    end = logits.values["end"].copy()
    end[2, 4] = value
    with pytest.raises(DataError, match="window 2: a logit of position 4 is not finite"):
        decode(examples, features, [span_outputs(logits.window, logits.values["start"], end)], DecodeOptions())


def test_missing_and_repeated_windows_are_refused() -> None:
    examples, features, logits = random_case(0, ties=False)
    n = len(features)
    with pytest.raises(DataError, match="window 1 has logits 0 times"):
        decode_spans(examples, features, split(logits, [0, *range(2, n)], 4), DecodeOptions())
    with pytest.raises(DataError, match="window 0 has logits 2 times"):
        decode_spans(examples, features, split(logits, [*range(n), 0], 4), DecodeOptions())


def test_nbest_file_gives_every_number_back() -> None:
    examples, features, logits = random_case(1, ties=False)
    examples[0] = replace(examples[0], id='q"0\\\n')
    predictions = decode_spans(examples, features, [logits], DecodeOptions())
    written = json.loads(nbest_json(predictions))
    assert list(written) == list(predictions)
    for question, prediction in predictions.items():
        for entry, candidate in zip(written[question], prediction.nbest, strict=True):
            assert entry["text"] == candidate.text
            assert np.float32(entry["start_logit"]) == candidate.start_logit
            assert np.float32(entry["end_logit"]) == candidate.end_logit
            assert entry["probability"] == pytest.approx(candidate.probability, rel=1e-11)


def bare(text: str) -> str:
    return "".join(text.split()).lower()


@pytest.mark.golden
@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "width", "stride", "n_lists_of_other_words"),
    [("len512.cont", 512, 128, 2), ("len128.cont", 128, 64, 1), ("len128.ties", 128, 64, 0)],
)
def test_answers_equal_the_original_program(
    golden_dir: Path, data_dir: Path, name: str, width: int, stride: int, n_lists_of_other_words: int
) -> None:
    from preprocess.readers.mrc import read_examples
    from preprocess.tokenizers.base import load_tokenizer

    examples, _ = read_examples(golden_dir / "features" / "cmrc_a.input.json", offset_unit="utf16")
    tokenizer = load_tokenizer(data_dir / "vocab" / "bert-base-chinese-vocab.txt")
    features = encode(examples, [None] * len(examples), tokenizer, max_seq_length=width, doc_stride=stride)
    folder = golden_dir / "postprocess"
    with np.load(folder / f"cmrc_a.{name}.logits.npz") as file:
        logits = span_outputs(np.arange(len(features), dtype=np.int32), file["start_logits"], file["end_logits"])
    with gzip.open(folder / f"cmrc_a.{name}.expected.json.gz", "rt", encoding="utf-8") as lines:
        expected = json.load(lines)["default"]

    # As we decode: the best answers are the same although padding does not compete with us.
    best = SpanProblem().best_answers(examples, features, [logits], DecodeOptions())
    assert {q: bare(text) for q, text in best.items()} == {q: bare(t) for q, t in expected["predictions"].items()}
    # As the original does, which reads padding too: the whole lists are the same. In the lists left, it could not
    # find a piece in its published word and answered with the whole word (docs/metrics.md).
    padded = replace(features, row_splits=np.arange(len(features) + 1, dtype=np.int64) * width)
    others = 0
    for question, prediction in decode_spans(examples, padded, [logits], DecodeOptions()).items():
        reference = expected["nbest"][question]
        if [bare(c.text) for c in prediction.nbest] != [bare(c["text"]) for c in reference]:
            others += 1
            continue
        for candidate, entry in zip(prediction.nbest, reference, strict=True):
            assert candidate.probability == pytest.approx(entry["probability"], abs=1e-9)
            assert (candidate.start_logit, candidate.end_logit) == (entry["start_logit"], entry["end_logit"])
    assert others == n_lists_of_other_words
