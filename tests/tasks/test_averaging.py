"""Several models as one: by hand, with tokenizers that cut differently, and one model that must stay what it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.types import Example, FeatureSet, Outputs
from tasks.core.prediction import DecodeOptions
from tasks.problems.averaging import Average
from tasks.problems.kinds import KindProblem
from tasks.problems.span import SpanProblem
from tests.support.values import span_features, span_outputs

EXAMPLES = [Example("q", "?", "甲乙丙丁")]
OFFSET = 3  # [CLS] question [SEP] stand before the context
KINDS = KindProblem({"unknown": "", "yes": "YES", "no": "NO"})
OPTIONS = DecodeOptions()


def model(
    spans: Sequence[tuple[int, int]],
    start: Sequence[float],
    end: Sequence[float],
    null: tuple[float, float] = (0.0, 0.0),
    kind: Sequence[float] | None = None,
) -> tuple[FeatureSet, list[Outputs]]:
    """One window with pieces of these spans; probabilities as logits, in front of them those of [CLS]."""
    n = len(spans)
    features = span_features(
        input_ids=np.zeros(OFFSET + n + 1, np.uint16),
        row_splits=np.array([0, OFFSET + n + 1]),
        example_index=[0],
        context_index=[0],
        doc_offset=np.array([OFFSET], np.int32),
        doc_length=np.array([n], np.int32),
        piece_start=np.array([0], np.int32),
        max_context=np.array([[0, n]], np.int32),
        start=[0],
        end=[0],
        piece_spans=np.array(spans, np.int32),
        piece_splits=np.array([0, n]),
        meta={},
    )

    def row(at_null: float, values: Sequence[float]) -> np.ndarray:
        with np.errstate(divide="ignore"):
            logits = np.log(np.array([at_null, 1.0, 1.0, *values, 1.0]))
        return np.maximum(logits, -50.0).astype(np.float32)[None]

    kinds = None if kind is None else np.array([kind], np.float32)
    return features, [span_outputs(np.array([0]), row(null[0], start), row(null[1], end), kinds)]


def test_models_with_other_pieces_meet_at_the_characters():
    """One reads characters, the other 甲乙|丙|丁: 0.4 and 0.9 at 甲 are 0.65, and 丙 can be no end of 甲乙."""
    average = Average(SpanProblem(), EXAMPLES)
    average.add(*model([(0, 1), (1, 2), (2, 3), (3, 4)], [0.4, 0.6, 0, 0], [0, 0.7, 0.3, 0]), OPTIONS)
    average.add(*model([(0, 2), (2, 3), (3, 4)], [0.9, 0.1, 0], [0.2, 0.8, 0]), OPTIONS)
    prediction = average.decode(20)["q"]
    shown = [(one.text, one.char_start, one.char_end) for one in prediction.nbest[:4]]
    # Starts: 甲 0.65, 乙 0.3, 丙 0.05. Ends: after 乙 0.45, after 丙 0.55.
    assert shown == [("甲乙丙", 0, 3), ("甲乙", 0, 2), ("乙丙", 1, 3), ("乙", 1, 2)]
    best = prediction.nbest[0]
    assert np.exp([best.start_logit, best.end_logit]) == pytest.approx([0.65, 0.55], abs=1e-6)
    assert (prediction.text, prediction.kind) == ("甲乙丙", "span")
    assert sum(one.probability for one in prediction.nbest) == pytest.approx(1.0)


def test_one_model_answers_as_it_does_alone_whatever_its_windows_say():
    """Two windows that overlap disagree about where an answer ends: that of the window of its start counts."""
    features = span_features(
        input_ids=np.zeros(14, np.uint16),
        row_splits=np.array([0, 7, 14]),
        example_index=[0, 0],
        context_index=[0, 0],
        doc_offset=np.array([OFFSET, OFFSET], np.int32),
        doc_length=np.array([3, 3], np.int32),
        piece_start=np.array([0, 1], np.int32),
        max_context=np.array([[0, 2], [1, 3]], np.int32),
        start=[0, 0],
        end=[0, 0],
        piece_spans=np.array([(0, 1), (1, 2), (2, 3), (3, 4)], np.int32),
        piece_splits=np.array([0, 4]),
        meta={},
    )
    random = np.random.default_rng(0)
    for _ in range(200):
        start, end = random.normal(size=(2, 2, 7)).astype(np.float32)
        outputs = [span_outputs(np.array([0, 1]), start, end)]
        alone = SpanProblem().decode(EXAMPLES, features, outputs, OPTIONS)["q"]
        average = Average(SpanProblem(), EXAMPLES)
        average.add(features, outputs, OPTIONS)
        together = average.decode(20)["q"]
        assert [one.text for one in together.nbest] == [one.text for one in alone.nbest]
        assert together.nbest[0].probability == pytest.approx(alone.nbest[0].probability, abs=1e-6)


def test_an_answer_is_not_longer_than_any_model_may_give():
    average = Average(SpanProblem(), EXAMPLES)
    pieces = [(0, 1), (1, 2), (2, 3), (3, 4)]
    average.add(*model(pieces, [1, 0, 0, 0], [0.1, 0.2, 0.3, 0.4]), DecodeOptions(max_answer_length=2))
    assert average.decode(20)["q"].text == "甲乙"
    average.add(*model([(0, 2), (2, 4)], [1, 0], [0.5, 0.5]), DecodeOptions(max_answer_length=2))
    assert average.decode(20)["q"].text == "甲乙丙丁"


def test_no_answer_is_one_more_place_and_kinds_are_averaged():
    pieces = [(0, 1), (1, 2), (2, 3), (3, 4)]
    sure = model(pieces, [0.1, 0, 0, 0], [0.1, 0, 0, 0], (0.9, 0.9), (0.0, 5.0, 0.0))
    unsure = model(pieces, [0.8, 0, 0, 0], [0.8, 0, 0, 0], (0.2, 0.2), (1.0, 0.0, 0.0))
    average = Average(KINDS, EXAMPLES)
    average.add(*sure, OPTIONS)
    first = average.decode(20)["q"]
    assert (first.text, first.kind, first.char_start) == ("YES", "yes", -1)
    average.add(*unsure, OPTIONS)
    average.add(*unsure, OPTIONS)
    # No span: (0.9 + 0.2 + 0.2) / 3 = 0.43; 甲: (0.1 + 0.8 + 0.8) / 3 = 0.57.
    both = average.decode(20)["q"]
    assert (both.text, both.kind) == ("甲", "span")
    assert {one.text for one in both.nbest} >= {"甲", "YES", ""}


def test_a_threshold_of_a_model_becomes_nothing():
    """A model whose best threshold is 6 says "no answer" only above it; an average has one threshold for all."""
    pieces = [(0, 1), (1, 2), (2, 3), (3, 4)]
    one = model(pieces, [0.1, 0, 0, 0], [0.1, 0, 0, 0], (0.9, 0.9), (0.0, 5.0, 0.0))
    average = Average(KINDS, EXAMPLES)
    average.add(*one, DecodeOptions(null_score_diff_threshold=6.0))
    assert average.decode(1)["q"].text == "甲"


def test_logits_that_are_missing_or_no_numbers_are_refused():
    features, (outputs,) = model([(0, 1), (1, 4)], [0.5, 0.5], [0.5, 0.5])
    with pytest.raises(DataError, match="every window must be predicted exactly once"):
        Average(SpanProblem(), EXAMPLES).add(features, [], OPTIONS)
    outputs.values["end"][0, OFFSET] = np.nan
    with pytest.raises(DataError, match="not finite"):
        Average(SpanProblem(), EXAMPLES).add(features, [outputs], OPTIONS)
