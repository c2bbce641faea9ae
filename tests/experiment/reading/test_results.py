"""What several documents say as one, how sure it is, and what a temperature makes of that."""

from __future__ import annotations

import math

import pytest

from experiment.reading.calibration import calibrated
from experiment.reading.results import confidences, pooled
from tasks.core.prediction import Candidate, DecodeOptions, Prediction

OPTIONS = DecodeOptions(n_best_size=3)


def _prediction(*candidates, kind="span", chosen=0):
    """Of (text, place, score) with the null ones at -1; probabilities are not looked at."""
    nbest = tuple(
        Candidate(text, place, place + len(text) if place >= 0 else -1, 1 / len(candidates), score, 0.0)
        for text, place, score in candidates
    )
    best = nbest[chosen]
    return Prediction("q", best.text, best.char_start, best.char_end, kind, best.start_logit, nbest)


def test_spans_of_all_documents_compete_by_their_scores():
    first, second = _prediction(("甲", 3, 1.0), ("乙", 0, 0.0)), _prediction(("丙", 2, 4.0), ("丁", 1, 2.0))
    answer, documents = pooled([first, second], OPTIONS)
    assert [(c.text, document) for c, document in zip(answer.nbest, documents, strict=True)] == [
        ("丙", 1), ("丁", 1), ("甲", 0)
    ]  # fmt: skip
    assert (answer.text, answer.char_start, answer.kind) == ("丙", 2, "span")
    total = sum(math.exp(score) for score in (4, 2, 1))
    assert [c.probability for c in answer.nbest] == pytest.approx([math.exp(s) / total for s in (4, 2, 1)])


def test_there_is_no_answer_only_where_no_document_has_one():
    sure_of_none = _prediction(("", -1, 9.0), ("甲", 3, 1.0), kind="unknown")
    has_one = _prediction(("丙", 2, 4.0), ("", -1, 2.0))
    answer, documents = pooled([sure_of_none, has_one], OPTIONS)
    assert (answer.text, answer.kind, documents[0]) == ("丙", "span", 1)
    assert [c.text for c in answer.nbest] == ["丙", "", "甲"]
    hardly = _prediction(("", -1, 5.0), ("丙", 2, 4.0), kind="unknown")
    answer, _ = pooled([sure_of_none, hardly], OPTIONS)
    assert (answer.text, answer.kind) == ("", "unknown")
    answer, _ = pooled([sure_of_none, hardly], DecodeOptions(n_best_size=3, null_score_diff_threshold=1.5))
    assert answer.text == "丙"


def test_a_document_without_any_span_says_nothing_of_the_others():
    nothing = _prediction(("", -1, 0.0))  # as where a text is empty; its logits are none
    some = _prediction(("丙", 2, -7.0))
    assert pooled([nothing, some], OPTIONS).prediction.text == "丙"
    assert pooled([nothing, nothing], OPTIONS).prediction.text == ""


def test_yes_counts_once_though_it_stands_in_the_list_twice():
    nbest = [Candidate("YES", -1, -1, 0.4, 2.0, 1.0), Candidate("甲", 3, 4, 0.2, 1.0, 0.0),
             Candidate("", -1, -1, 0.4, 2.0, 1.0)]  # fmt: skip
    assert confidences(nbest, 1.0) == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert confidences(nbest[1:], 1.0) == pytest.approx([1 / 3, 2 / 3])
    assert confidences([], 1.0) == []


def test_a_temperature_of_two_halves_logits():
    nbest = [Candidate("甲", 0, 1, 0.9, 0.0, 0.0), Candidate("乙", 1, 2, 0.1, 0.0, 0.0)]
    (share, _) = confidences(nbest, 2.0)
    assert share == pytest.approx(3 / 4)  # sqrt(9) to 1
    assert confidences(nbest, 1e-3) == [1.0, 0.0]


def test_calibration_finds_how_much_too_sure_a_model_is():
    """Of answers that are 90 % sure three quarters are right: that is what a temperature of 2 says."""
    nbest = (Candidate("甲", 0, 1, 0.9, 0.0, 0.0), Candidate("乙", 1, 2, 0.1, 0.0, 0.0))
    sure = Prediction("q", "甲", 0, 1, "span", 0.0, nbest)
    found = calibrated([sure] * 4, [1, 1, 1, 0])
    assert found.temperature == pytest.approx(2.0, rel=1e-3) and found.n_questions == 4
    assert found.error_before == pytest.approx(0.15) and found.error_after == pytest.approx(0.0, abs=1e-4)
