"""The schedule of the learning rate, by hand."""

from __future__ import annotations

from preprocess.base.schedule import linear_schedule


def test_schedule_rises_then_falls_to_zero():
    factors = [linear_schedule(step, 10, 2) for step in range(11)]
    assert factors == [0.0, 0.5, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0.0]


def test_schedule_without_a_warm_up_starts_at_the_peak():
    assert [linear_schedule(step, 4, 0) for step in range(5)] == [1.0, 3 / 4, 2 / 4, 1 / 4, 0.0]
