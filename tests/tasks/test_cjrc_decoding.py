"""Answers that are no span: null score against best span, kinds, and the exact search for the threshold."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.tokenizers.base import load_tokenizer
from preprocess.types import Example, FeatureSet, Outputs
from tasks.core.discovery import get_task
from tasks.core.prediction import Candidate, DecodeOptions, Prediction, Score, Scorer
from tasks.problems.kinds import KindProblem, best_threshold
from tasks.problems.span import SpanProblem, decode_spans
from tests.support.values import encode, span_features, span_outputs

TEXTS = {"unknown": "", "yes": "YES", "no": "NO"}
DECODER = KindProblem(TEXTS)
UNKNOWN, YES, NO = (2.0, 1.0, 0.0), (1.0, 2.0, 0.0), (0.0, 1.0, 2.0)
ABOVE_5 = float(np.nextafter(5.0, 6.0))
OFFSET = 3  # [CLS] question [SEP] stand before the context


def build(contexts: Sequence[str], windows: Sequence[tuple[int, int, int]]) -> tuple[list[Example], FeatureSet]:
    """One piece per character; a window is (example, first piece, n pieces), which all have their context there."""
    table = np.array(windows, np.int32)
    lengths = table[:, 2] + OFFSET + 1
    n = len(table)
    features = span_features(
        input_ids=np.zeros(lengths.sum(), np.uint16),
        row_splits=np.concatenate([[0], np.cumsum(lengths)]),
        example_index=table[:, 0],
        doc_offset=np.full(n, OFFSET, np.int32),
        doc_length=table[:, 2],
        piece_start=table[:, 1],
        max_context=np.stack([np.zeros(n, np.int32), table[:, 2]], axis=1),
        start=np.zeros(n, np.int32),
        end=np.zeros(n, np.int32),
        context_index=table[:, 0],
        piece_spans=np.array([(i, i + 1) for text in contexts for i in range(len(text))], np.int32),
        piece_splits=np.concatenate([[0], np.cumsum([len(text) for text in contexts])]).astype(np.int64),
        meta={},
    )
    return [Example(f"q{i}", "?", context) for i, context in enumerate(contexts)], features


Row = tuple[float, dict[int, float], tuple[float, float, float]]


def logits_of(rows: Sequence[Row]) -> Outputs:
    """Each row gives the null score, span scores by piece (a span of one piece each), and kind logits."""
    start, end = np.full((2, len(rows), 9), -9.0, np.float32)
    for row, (null, spans, _) in enumerate(rows):
        start[row, 0] = null
        end[row, 0] = 0.0
        for piece, score in spans.items():
            start[row, piece + OFFSET], end[row, piece + OFFSET] = score - 1.0, 1.0
    return span_outputs(
        np.arange(len(rows), dtype=np.int32), start, end, np.array([row[2] for row in rows], np.float32)
    )


def decode_one(rows: Sequence[Row], options: DecodeOptions | None = None) -> Prediction:
    """One question about 甲乙丙丁, a window per row; both paths must agree."""
    examples, features = build(["甲乙丙丁"], [(0, 0, 4)] * len(rows))
    logits, options = logits_of(rows), options or DecodeOptions(max_answer_length=1)
    prediction = DECODER.decode(examples, features, [logits], options)["q0"]
    assert DECODER.best_answers(examples, features, [logits], options) == {"q0": prediction.text}
    return prediction


@pytest.mark.parametrize(("kind", "name"), [(UNKNOWN, "unknown"), (YES, "yes"), (NO, "no")])
def test_null_answer_is_the_kind_with_the_highest_logit(kind: tuple[float, float, float], name: str) -> None:
    prediction = decode_one([(5.0, {1: 4.0}, kind)])
    assert (prediction.text, prediction.kind) == (TEXTS[name], name)
    assert (prediction.char_start, prediction.char_end, prediction.score) == (-1, -1, 5.0)


def test_span_wins_unless_the_difference_is_above_the_threshold() -> None:
    for null, threshold, text in ((4.0, 0.0, "乙"), (4.5, 0.0, "YES"), (4.5, 0.5, "乙"), (3.0, -1.0, "乙")):
        options = DecodeOptions(max_answer_length=1, null_score_diff_threshold=threshold)
        assert decode_one([(null, {1: 4.0}, YES)], options).text == text
    options = DecodeOptions(max_answer_length=1, null_score_diff_threshold=-1.5)
    assert decode_one([(3.0, {1: 4.0}, YES)], options).text == "YES"


def test_null_score_is_the_lowest_of_the_windows_and_that_window_names_the_kind() -> None:
    # The first window is sure of YES; but the second, which sees an answer, has the lower null score.
    assert decode_one([(9.0, {}, YES), (3.0, {1: 4.0}, NO)]).text == "乙"
    prediction = decode_one([(9.0, {}, YES), (5.0, {1: 4.0}, NO)])
    assert (prediction.text, prediction.score) == ("NO", 5.0)
    # Of equals it is the first.
    assert decode_one([(5.0, {1: 4.0}, YES), (5.0, {}, NO)]).text == "YES"


def test_question_without_a_valid_span_is_null_at_any_threshold() -> None:
    examples, features = build(["甲乙"], [(0, 0, 2)])
    logits = logits_of([(-50.0, {}, NO)])
    logits.values["start"][0, 2] = logits.values["end"][0, 2] = 99.0  # a question piece takes the only place
    options = DecodeOptions(n_best_size=1, null_score_diff_threshold=1e9)
    prediction = DECODER.decode(examples, features, [logits], options)["q0"]
    assert (prediction.text, prediction.kind, prediction.score) == ("NO", "no", -50.0)
    assert [c.text for c in prediction.nbest] == ["NO", ""]
    assert DECODER.best_answers(examples, features, [logits], options) == {"q0": "NO"}


def test_list_holds_the_null_answer_at_its_place_and_the_empty_answer() -> None:
    prediction = decode_one([(4.0, {0: 5.0, 1: 4.0, 2: 3.0}, YES)])
    # At equal scores the span comes first; piece 3 has -9 twice.
    assert [(c.text, c.start_logit) for c in prediction.nbest] == [
        ("甲", 4.0), ("乙", 3.0), ("YES", 4.0), ("丙", 2.0), ("丁", -9.0), ("", 4.0)
    ]  # fmt: skip
    weights = [math.exp(score) for score in (5, 4, 4, 3, -18, 4)]
    assert [c.probability for c in prediction.nbest] == pytest.approx([w / sum(weights) for w in weights])
    assert [c.text for c in decode_one([(4.0, {0: 5.0}, UNKNOWN)]).nbest][:2] == ["甲", ""]
    assert sum(c.text == "" for c in decode_one([(4.0, {0: 5.0}, UNKNOWN)]).nbest) == 1


def test_list_holds_the_answer_even_behind_its_best() -> None:
    rows = [(1.0, {0: 5.0, 1: 4.0, 2: 3.0}, YES)]
    options = DecodeOptions(n_best_size=2, max_answer_length=1, null_score_diff_threshold=-9.0)
    prediction = decode_one(rows, options)
    assert (prediction.text, [c.text for c in prediction.nbest]) == ("YES", ["甲", "乙", "YES", ""])
    prediction = decode_one(rows, replace(options, null_score_diff_threshold=0.0))
    assert (prediction.text, [c.text for c in prediction.nbest]) == ("甲", ["甲", "乙", ""])


def test_yes_in_the_context_is_a_span() -> None:
    examples, features = build(["YES"], [(0, 0, 3)])
    logits = logits_of([(0.0, {0: 9.0}, NO)])
    logits.values["start"][0, OFFSET], logits.values["end"][0, OFFSET + 2] = 9.0, 9.0
    prediction = DECODER.decode(examples, features, [logits], DecodeOptions())["q0"]
    assert (prediction.text, prediction.kind, prediction.char_end) == ("YES", "span", 3)


def test_one_kind_needs_no_kind_logits_and_more_kinds_do() -> None:
    examples, features = build(["甲乙丙丁"], [(0, 0, 4)])
    outputs = logits_of([(5.0, {1: 4.0}, YES)])
    spans = {name: outputs.values[name] for name in ("start", "end")}
    single = KindProblem({"unknown": ""})
    assert not single.head.reads("sequence")
    prediction = single.decode(examples, features, [Outputs(outputs.window, spans)], DecodeOptions())["q0"]
    assert (prediction.text, prediction.kind) == ("", "unknown")
    diverged = Outputs(outputs.window, {**spans, "kind": np.array([[0, np.nan, 0]], np.float32)})
    with pytest.raises(DataError, match="window 0 and those in its batch: the kind logits are not finite"):
        DECODER.best_answers(examples, features, [diverged], DecodeOptions())


def random_case(seed: int, ties: bool) -> tuple[list[Example], FeatureSet, Outputs]:
    random = np.random.RandomState(seed)
    contexts = ["".join(random.choice(list("甲乙丙丁"), 8)) for _ in range(12)]
    windows = [(i, first, 5) for i in range(12) for first in (0, 3)[: random.randint(1, 3)]]
    examples, features = build(contexts, windows)
    shape = (2, len(windows), 9)
    scores = random.randint(-3, 4, shape) if ties else random.normal(0, 3, shape)
    kinds = random.randint(0, 3, (len(windows), 3)).astype(np.float32)
    start, end = scores.astype(np.float32)
    return examples, features, span_outputs(np.arange(len(windows), dtype=np.int32), start, end, kinds)


def decode_slowly(
    examples: Sequence[Example], features: FeatureSet, logits: Outputs, options: DecodeOptions
) -> dict[str, str]:
    """The rule over the span decoder's own lists."""
    answers = {}
    assert logits.values["kind"] is not None
    for index, (id, spans) in enumerate(decode_spans(examples, features, [logits], options).items()):
        windows = np.flatnonzero(features.example_index == index).tolist()
        null = min(
            windows,
            key=lambda window: float(logits.values["start"][window, 0]) + float(logits.values["end"][window, 0]),
        )
        null_score = float(logits.values["start"][null, 0]) + float(logits.values["end"][null, 0])
        text = list(TEXTS.values())[max(range(3), key=logits.values["kind"][null].tolist().__getitem__)]
        is_span = spans.text and null_score - spans.score <= options.null_score_diff_threshold
        answers[id] = spans.text if is_span else text
    return answers


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("threshold", [-4.0, 0.0, 2.5])
def test_both_paths_equal_a_plain_loop_in_any_batch_order(ties: bool, threshold: float) -> None:
    for seed in range(15):
        examples, features, logits = random_case(seed, ties)
        options = DecodeOptions(4, 3, threshold)
        expected = decode_slowly(examples, features, logits, options)
        rows = np.random.RandomState(seed).permutation(len(features)).astype(np.int32)
        assert logits.values["kind"] is not None
        batches = [
            span_outputs(part, logits.values["start"][part], logits.values["end"][part], logits.values["kind"][part])
            for part in np.array_split(rows, 3)
        ]
        predictions = DECODER.decode(examples, features, iter(batches), options)
        assert {id: p.text for id, p in predictions.items()} == expected
        assert DECODER.best_answers(examples, features, iter(batches), options) == expected
        for prediction in predictions.values():
            assert prediction.text in [c.text for c in prediction.nbest] and "" in [c.text for c in prediction.nbest]
            assert sum(c.probability for c in prediction.nbest) == pytest.approx(1.0)
            assert prediction.kind == {v: k for k, v in TEXTS.items()}.get(prediction.text, "span")


def test_infinite_thresholds_give_all_spans_or_all_nulls() -> None:
    examples, features, logits = random_case(1, ties=False)
    spans = SpanProblem().best_answers(examples, features, [logits], DecodeOptions(4, 3))
    never = DecodeOptions(4, 3, math.inf)
    assert all(spans.values()) and DECODER.best_answers(examples, features, [logits], never) == spans
    always = DecodeOptions(4, 3, -math.inf)
    assert set(DECODER.best_answers(examples, features, [logits], always).values()) <= set(TEXTS.values())


def total_at(threshold: float, difference: Any, span: Any, null: Any) -> float:
    return float(np.where(difference > threshold, null, span).sum())


def test_best_threshold_equals_brute_force() -> None:
    for seed in range(300):
        random = np.random.RandomState(seed)
        n = random.randint(1, 12)
        difference = random.randint(-4, 5, n).astype(float) if seed % 2 else random.normal(0, 3, n)
        difference[random.rand(n) < 0.1] = np.inf
        span, null = random.choice([0.0, 0.25, 1.0], (2, n))
        finite = np.sort(difference[np.isfinite(difference)])
        tried = [-99.0, *finite, *(finite + 1e-9), 99.0]
        best = max(total_at(t, difference, span, null) for t in tried)
        found = best_threshold(difference, span, null)
        assert math.isfinite(found) and total_at(found, difference, span, null) == pytest.approx(best)
        if total_at(0.0, difference, span, null) == pytest.approx(best):
            assert found == 0.0


@pytest.mark.parametrize(
    ("difference", "gain", "threshold"),
    [
        ([1.0, 3.0], [1.0, -1.0], 2.0),  # the middle of the two
        ([1.0, 3.0], [1.0, 1.0], 4.0),  # beside the last
        ([-3.0, -1.0], [-1.0, -1.0], -4.0),  # beside the first
        ([-3.0, -1.0, 2.0], [1.0, -1.0, 1.0], -2.0),  # [-3, -1) and [2, inf) do as well: -2 is nearer to 0 than 3
        ([1.0, 1.0], [1.0, -1.0], 0.0),  # equal differences can't be told apart
        ([0.0], [1.0], 0.0),  # 0 is not above 0
        ([0.0], [-1.0], -1.0),
        ([ABOVE_5, np.nextafter(ABOVE_5, 6.0)], [1.0, -1.0], ABOVE_5),  # no number lies between
        ([np.inf, np.inf], [1.0, 1.0], 0.0),
    ],
)
def test_threshold_by_hand(difference: list[float], gain: list[float], threshold: float) -> None:
    null = np.zeros(len(gain))
    assert best_threshold(np.array(difference), null + gain, null) == threshold


def exact_scorer(gold: Mapping[str, str]) -> Scorer:
    def score(predictions: Mapping[str, Any]) -> Score:
        per_example = {id: {"f1": float(predictions[id] == text), "em": 0.0} for id, text in gold.items()}
        return Score({"f1": 100 * sum(s["f1"] for s in per_example.values()) / len(gold)}, per_example, len(gold), 0)

    return score


@pytest.mark.parametrize("ties", [False, True])
def test_tuned_threshold_scores_as_well_as_any_other(ties: bool) -> None:
    for seed in range(10):
        examples, features, logits = random_case(seed, ties)
        options = DecodeOptions(4, 3, 7.0)
        # Half of the questions are answered by their span, half by their null answer.
        spans, nulls = (
            DECODER.best_answers(examples, features, [logits], replace(options, null_score_diff_threshold=t))
            for t in (math.inf, -math.inf)
        )
        scorer = exact_scorer({id: (spans if i % 2 else nulls)[id] for i, id in enumerate(spans)})

        def f1(threshold: float, case: Any = (examples, features, [logits]), scorer: Any = scorer) -> float:
            return scorer(DECODER.best_answers(*case, DecodeOptions(4, 3, threshold))).values["f1"]

        tuned = DECODER.tune(examples, features, [logits], options, scorer)
        assert replace(tuned, null_score_diff_threshold=7.0) == options
        assert f1(tuned.null_score_diff_threshold) == max(f1(t) for t in np.arange(-20, 20, 0.05))


def bare(text: str) -> str:
    return "".join(text.split()).lower()


def known_difference(candidates: Sequence[Candidate], reference: Sequence[Mapping[str, Any]]) -> bool:
    """The original answered with whole words where it could not find a piece in its published word."""
    pairs = [(bare(c.text), bare(r["text"])) for c, r in zip(candidates, reference, strict=True)]
    return all(theirs == ours or ours in theirs or ours[:9] == theirs[:9] for ours, theirs in pairs)


@pytest.mark.golden
@pytest.mark.realdata
@pytest.mark.parametrize("threshold", ["0.0", "-3.0", "3.0"])
@pytest.mark.parametrize(
    ("name", "width", "stride", "n_lists", "n_kinds"),
    [("len512.cont", 512, 128, 2, 0), ("len128.cont", 128, 64, 3, 2), ("len128.ties", 128, 64, 0, 0)],
)
def test_answers_equal_the_original_program(
    golden_dir: Path, data_dir: Path, threshold: str, name: str, width: int, stride: int, n_lists: int, n_kinds: int
) -> None:
    task = get_task("cjrc")
    examples, _ = task.read(golden_dir / "features" / "cjrc_a.input.json")
    tokenizer = load_tokenizer(data_dir / "vocab" / "bert-base-chinese-vocab.txt")
    features = encode(examples, [None] * len(examples), tokenizer, max_seq_length=width, doc_stride=stride)
    with np.load(golden_dir / "postprocess" / f"cjrc_a.{name}.logits.npz") as file:
        order = np.arange(len(features), dtype=np.int32)
        logits = span_outputs(order, file["start_logits"], file["end_logits"], file["target_logits"])
    with gzip.open(golden_dir / "postprocess" / f"cjrc_a.{name}.expected.json.gz", "rt", encoding="utf-8") as lines:
        expected = json.load(lines)[f"threshold={threshold}"]
    options = DecodeOptions(null_score_diff_threshold=float(threshold))

    best = task.problem.best_answers(examples, features, [logits], options)
    other = {id for id, text in best.items() if bare(text) != bare(expected["predictions"][id])}
    # The original knows the kind only where the null answer is among the 20 best: a low threshold shows it.
    assert len(other) == (n_kinds if threshold == "-3.0" else 0)
    assert all(best[id] in ("YES", "NO") and expected["predictions"][id] == "" for id in other)
    # The lists are equal when padding competes, as it does there (docs/metrics.md).
    padded = replace(features, row_splits=np.arange(len(features) + 1, dtype=np.int64) * width)
    n_other_words = 0
    for id, prediction in task.problem.decode(examples, padded, [logits], options).items():
        reference = expected["nbest"][id]
        if id in other:
            assert [c.text for c in prediction.nbest][-2:] == [best[id], ""]
            continue
        if [bare(c.text) for c in prediction.nbest] != [bare(c["text"]) for c in reference]:
            n_other_words += 1
            assert known_difference(prediction.nbest, reference), id
        for candidate, entry in zip(prediction.nbest, reference, strict=True):
            assert candidate.probability == pytest.approx(entry["probability"], abs=1e-9)
            assert (candidate.start_logit, candidate.end_logit) == (entry["start_logit"], entry["end_logit"])
    assert n_other_words == n_lists
