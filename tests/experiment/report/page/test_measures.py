"""Mistakes, calibration, buckets, kinds and thresholds: each case can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

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
    nbest = [
        {"text": text, "probability": 0.3, "start_logit": start, "end_logit": 2.0}
        for text, start in (("北京", 2.0), ("NO", 1.5), ("", 1.5))
    ]
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
