"""Mistakes, calibration, buckets, kinds and thresholds: each case can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiment.report.page.calibration import confidence, reliability, risk_coverage, without_twin
from experiment.report.page.groups import Bucket, buckets, confusion, null_difference, threshold_curve
from experiment.report.page.mistakes import Place, judge, nearest
from preprocess.types import Answer

CONTEXT = "小猫住在北京。小狗住在上海。小猫住在北京城里。"
GOLD = (Answer("住在北京", 2, 6),)
KINDS = {"": "unknown", "YES": "yes", "NO": "no"}
YES, NONE = Answer("YES", kind="yes"), Answer("", kind="unknown")


@pytest.mark.parametrize(
    ("answer", "gold", "mistake", "place"),
    [
        ("小猫住在北京。", GOLD, "too_long", (0, 7)),
        ("北京", GOLD, "too_short", (4, 6)),
        ("北京。小狗", GOLD, "shifted", (4, 9)),
        ("上海", GOLD, "wrong_place", (11, 13)),
        ("南京", GOLD, "not_in_context", None),
        ("", GOLD, "left_unanswered", None),
        ("YES", GOLD, "wrong_kind", None),
        ("北京", (YES,), "wrong_kind", (4, 6)),
        ("NO", (YES,), "wrong_kind", None),
        ("北京", (NONE,), "should_be_unanswered", (4, 6)),
        ("北京", (), "should_be_unanswered", (4, 6)),
        ("YES", (), "should_be_unanswered", None),
        (None, GOLD, "missing", None),
        ("住在北京", (*GOLD, Answer("上海", 11, 13), YES), "partly", (2, 6)),
        ("YES", (*GOLD, YES), "partly", None),
        # Of several annotated answers the nearest one counts, wherever it stands in the list.
        ("小狗住在", (Answer("北京", 4, 6), Answer("狗住", 8, 10)), "too_long", (7, 11)),
        # An annotated text without a place is looked for.
        ("上海。", (Answer("上海"),), "too_long", (11, 14)),
    ],
)
def test_each_mistake_has_its_type(answer, gold, mistake, place):
    assert judge(answer, gold, CONTEXT, 0.0, KINDS) == (mistake, Place(*place) if place else None)


def test_the_metric_says_what_is_right():
    """It leaves out punctuation, so that a boundary may differ and the answer be right."""
    assert judge("住在北京。", GOLD, CONTEXT, 1.0, KINDS).mistake == "right"


def test_a_text_stands_where_it_has_most_in_common_with_an_annotated_one():
    later = Place(18, 20)
    assert CONTEXT[18:20] == "北京"
    assert nearest("北京", [later], CONTEXT) == later
    assert nearest("北京", [], CONTEXT) == (4, 6)
    assert nearest("aa", [Place(1, 3)], "aaa") == (1, 3)  # places may overlap


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


def test_buckets_hold_about_equally_many_and_equal_lengths_stay_together():
    assert buckets(np.array([1, 2, 3, 4, 5, 6, 7, 8])) == [(1, 2), (3, 4), (5, 6), (7, 8)]
    assert buckets(np.array([5, 5, 5, 9])) == [(5, 5), (9, 9)]
    assert buckets(np.array([7])) == [(7, 7)]
    assert Bucket(3, 4).holds(np.array([2, 3, 4, 5])).tolist() == [False, True, True, False]
    assert [Bucket(3, 4).text, Bucket(5, 5).text] == ["3–4", "5"]


def test_each_length_is_in_one_bucket():
    lengths = np.random.default_rng(0).integers(1, 40, 500)
    assert sum(bucket.holds(lengths).sum() for bucket in buckets(lengths)) == 500


def test_confusion_has_annotated_kinds_in_rows():
    found = confusion(["span", "yes", "yes"], ["span", "span", "yes"], ["span", "yes"])
    assert found.tolist() == [[1, 0], [1, 1]]


def test_null_difference_is_that_of_the_sums():
    nbest = [_candidate("北京", 0.5, 2, 2), _candidate("NO", 0.3, 1.5, 2), _candidate("", 0.3, 1.5, 2)]
    assert null_difference(nbest, KINDS) == (-0.5, "NO", "北京")
    assert null_difference(nbest[1:], KINDS) == (math.inf, "NO", "")
    assert null_difference(nbest[:1], KINDS) is None


def test_a_score_changes_where_a_question_gets_its_span():
    # Spans of the first two questions are right, the third has no answer; the fourth has no span at all.
    curve = threshold_curve(np.array([-1.0, 2.0, 3.0, np.inf]), np.array([1, 1, 0, 0.0]), np.array([0, 0, 1, 1.0]))
    assert curve.threshold.tolist() == [-1, 2, 3]
    assert curve.score.tolist() == [3 / 4, 4 / 4, 3 / 4]
    assert curve.best == 2


def test_equal_differences_change_together():
    curve = threshold_curve(np.array([1.0, 1.0]), np.array([1, 1.0]), np.array([0, 0.0]))
    assert (curve.threshold.tolist(), curve.score.tolist()) == ([1], [1])
