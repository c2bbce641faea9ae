"""How well a model knows when it is right: each case can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.metrics.calibration import (
    confidence,
    exact_of,
    log_loss,
    reliability,
    risk_coverage,
    without_twin,
)

KINDS = {"": "unknown", "YES": "yes", "NO": "no"}


def test_ece_is_the_mean_distance_by_questions():
    # Bins of a half: {0.2, 0.4} right once (mean 0.3 against 0.5), {0.5, 0.9, 1.0} right twice (0.8 against 2/3).
    found = reliability(np.array([0.2, 0.4, 0.5, 0.9, 1.0]), np.array([1, 0, 1, 0, 1.0]), n_bins=2)
    assert found.n_questions.tolist() == [2, 3]
    assert found.confidence == pytest.approx([0.3, 0.8])
    assert found.accuracy == pytest.approx([0.5, 2 / 3])
    assert found.error == pytest.approx((2 * 0.2 + 3 * (0.8 - 2 / 3)) / 5)


def test_a_bin_holds_its_lower_edge_and_an_empty_one_counts_nothing():
    found = reliability(np.array([0.0, 0.3, 0.7, 1.0]), np.ones(4))
    assert found.n_questions.tolist() == [1, 0, 0, 1, 0, 0, 0, 1, 0, 1]
    assert math.isnan(found.accuracy[1])
    assert found.error == pytest.approx((1 + 0.7 + 0.3 + 0) / 4)


def test_risk_is_that_of_the_surest_questions():
    found = risk_coverage(np.array([0.1, 0.9, 0.5, 0.7]), np.array([0, 1, 1, 0.0]))
    assert found.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert found.risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert found.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_questions_of_equal_confidence_have_no_order():
    one = risk_coverage(np.array([0.5, 0.5, 0.5, 0.5]), np.array([0, 1, 1, 1.0]))
    other = risk_coverage(np.array([0.5, 0.5, 0.5, 0.5]), np.array([1, 1, 1, 0.0]))
    assert one.risk == pytest.approx([0.25] * 4)
    assert other.risk == pytest.approx([0.25] * 4)


def _candidate(text, probability, start=0.0, end=0.0):
    return {"text": text, "probability": probability, "start_logit": start, "end_logit": end}


def test_yes_and_its_twin_are_one_answer():
    """CJRC's lists hold the null answer twice, each with half of the probability."""
    nbest = [_candidate("YES", 0.4, 3, 2), _candidate("北京", 0.2, 1, 3), _candidate("", 0.4, 3, 2)]
    kept = without_twin(nbest, KINDS)
    assert [candidate["text"] for candidate in kept] == ["YES", "北京"]
    assert confidence(kept, "YES") == pytest.approx(0.4 / 0.6)
    assert confidence(kept, "北京") == pytest.approx(0.2 / 0.6)
    assert math.isnan(confidence(kept, "上海"))


def test_an_empty_answer_of_its_own_stays():
    nbest = [_candidate("北京", 0.75, 3, 2), _candidate("", 0.25, 3, 2)]
    assert without_twin(nbest, KINDS) == nbest
    assert confidence(nbest, "") == 0.25


def test_fewer_and_surer_answers_are_right_more_often():
    found = risk_coverage(np.array([0.1, 0.9, 0.5, 0.7]), np.array([0, 1, 1, 0.0]))
    assert [found.accuracy_at(share) for share in (0.25, 0.5, 1)] == pytest.approx([1, 1 / 2, 1 / 2])
    assert found.accuracy_at(0.625) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found.accuracy_at(0.01) == 1  # less than one question: the surest


def test_loss_is_that_of_the_confidence_and_stays_finite():
    assert log_loss(np.array([0.5, 0.8]), np.array([1, 0.0])) == pytest.approx(-(math.log(0.5) + math.log(0.2)) / 2)
    assert log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(-math.log(1e-6))


def test_an_answer_is_right_by_the_metric_that_says_so():
    assert exact_of(("f1", "em")) == "em"
    assert exact_of(("mrr", "accuracy", "f1")) == "accuracy"
    assert exact_of(("qac", "pac")) == "qac"
    assert exact_of(()) == ""
