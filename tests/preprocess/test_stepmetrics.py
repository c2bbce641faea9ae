"""What a log says of some steps, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from preprocess.base.stepmetrics import skipped_in_a_row, step_metrics

NAN, INF = math.nan, math.inf


def test_means_are_over_the_steps_that_are_finite():
    metrics = step_metrics(np.array([1.0, NAN, 3.0, 5.0]), np.array([2.0, 2.0, INF, 4.0]))
    assert metrics == {"loss": 3.0, "grad_norm": pytest.approx(8 / 3), "skipped_steps": 2.0}
    assert step_metrics(np.array([NAN]), np.array([NAN])) == {"skipped_steps": 1.0}


def test_losses_apart_are_means_over_windows():
    apart = np.array([[4.0, 1.0], [2.0, 0.0], [NAN, NAN]])
    metrics = step_metrics(np.array([2.0, 2.0, NAN]), np.ones(3), apart, [(1, 3), (4, 0), (2, 2)])
    assert metrics["answered"] == pytest.approx(7 / 12)
    assert metrics["loss_answered"] == pytest.approx((4.0 + 4 * 2.0) / 5)
    assert metrics["loss_unanswered"] == 1.0  # a step without such windows says nothing of them


def test_steps_in_a_row_without_effect_are_counted_from_the_last_one_on():
    good, bad = 1.0, NAN
    assert skipped_in_a_row(np.array([bad, good, bad, bad]), np.ones(4), before=7) == 2
    assert skipped_in_a_row(np.array([bad, bad]), np.ones(2), before=7) == 9
    assert skipped_in_a_row(np.array([good, good]), np.array([1.0, INF]), before=7) == 1
