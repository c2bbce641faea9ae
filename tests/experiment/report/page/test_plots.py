"""Plots: where things are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from experiment.report.page.curves import learning_curves
from experiment.report.page.plots import (
    Axis,
    Bars,
    Chart,
    Line,
    Row,
    Strips,
    draw,
    nice_step,
    padded,
    shortened,
    thinned,
)
from experiment.training.record import Record


@pytest.mark.parametrize(
    ("least", "step"), [(0.3, 0.5), (1, 1), (1.01, 2), (7, 10), (0.02, 0.02), (40, 50), (0.003, 0.005)]
)
def test_steps_are_round(least, step):
    assert nice_step(least) == pytest.approx(step)


def test_values_are_placed_in_proportion_and_upwards():
    axis = Axis(50.0, 100.0, 210.0, 10.0)
    assert [axis.place(value) for value in (50, 75, 100)] == [210, 110, 10]
    assert [tick.text for tick in axis.ticks()] == ["50", "60", "70", "80", "90", "100"]
    assert [tick.text for tick in Axis(0.0, 1.0, 0, 1).ticks()] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]


def test_a_range_of_one_value_has_a_width():
    assert padded(0.0, 0.0) == (-0.5, 0.5)
    low, high = padded(80.0, 80.0)
    assert low < 80 < high


def test_long_lines_keep_their_ends():
    kept = thinned(5000, 240)
    assert (kept[0], kept[-1], len(kept)) == (0, 4999, 240)
    assert thinned(3, 240) == [0, 1, 2] and thinned(0, 5) == [] and thinned(1, 5) == [0]


def test_a_band_goes_there_and_back():
    line = Line("m", np.array([0.0, 1]), np.array([1.0, 2]), low=np.array([0.0, 1]), high=np.array([2.0, 3]))
    drawing = draw(Chart("t", "x", "y", [line], (0, 1), (0, 4)))
    left, right, height, bottom = drawing.box.left, drawing.box.right, drawing.box.height, drawing.box.bottom
    at = [round(bottom - height * value / 4, 2) for value in range(4)]
    band, path = (shape["path"] for shape in drawing.shapes)
    assert band == f"M{left:g} {at[2]:g}L{right:g} {at[3]:g}L{right:g} {at[1]:g}L{left:g} {at[0]:g}Z"
    assert path == f"M{left:g} {at[1]:g}L{right:g} {at[2]:g}"


def test_a_bar_stands_on_the_axis_and_what_is_not_known_has_none():
    drawing = draw(Bars("t", "x", "y", ["a", "b"], [("m", 0, [50.0, float("nan")])]))
    (bar,) = drawing.shapes
    assert bar["y"] + bar["height"] == pytest.approx(drawing.box.bottom)
    assert drawing.table == [["m", "a", "50.00"]]


def test_each_seed_has_a_dot_and_their_mean_a_stroke():
    drawing = draw(Strips("t", "F1 in %", [Row("m", [80.0, 90.0], ["seed 1", "seed 2"], 85.0, (70.0, 95.0))]))
    bar, stroke, *dots = drawing.shapes
    assert [dot["said"] for dot in dots] == ["m, seed 1: 80.000", "m, seed 2: 90.000"]
    assert float(stroke["path"][1:].split()[0]) == pytest.approx((dots[0]["cx"] + dots[1]["cx"]) / 2, abs=0.01)
    assert bar["x"] < dots[0]["cx"] < dots[1]["cx"] < bar["x"] + bar["width"]


def test_long_names_of_rows_keep_both_ends():
    """Two trainings of one model differ at the end; a Chinese character is as wide as two others."""
    names = [f"bert (from scratch) (runs/{way})" for way in ("short", "long")]
    drawing = draw(Strips("t", "F1 in %", [Row(name, [80.0], ["seed 1"], 80.0) for name in names]))
    assert [tick.text for tick in drawing.y_ticks] == ["bert (from…runs/short)", "bert (from…(runs/long)"]
    assert [tick.whole for tick in drawing.y_ticks] == names
    assert shortened("中文预训练模型长") == "中文预训练模型长"
    assert shortened("中文预训练模型，训练很长时间") == "中文预训练…练很长时间"


def _record(seed, *losses):
    evaluations = [{"step": i, "epoch": float(i), "loss": loss, "dev": {"f1": 10.0 * i}} for i, loss in losses]
    return Record("cmrc2018", "1", "m", seed, "finished", {}, ["f1"], {}, {}, evaluations=evaluations)


def test_the_mean_is_over_the_steps_that_all_seeds_have():
    chart = learning_curves(
        {"m": [_record(1, (1, 4.0), (2, 2.0), (3, 1.0)), _record(2, (1, 2.0), (2, 1.0))]}, {"m": 3}
    )[0]
    mean = chart.lines[-1]
    assert [line.thin for line in chart.lines] == [True, True, False]
    assert (mean.x.tolist(), mean.y.tolist()) == ([1, 2], [3.0, 1.5])
    assert (mean.low.tolist(), mean.high.tolist()) == ([2, 1], [4, 2])
    assert mean.style == 3


def test_one_seed_is_one_line():
    loss, f1 = learning_curves({"m": [_record(1, (1, 4.0))]}, {})
    assert [line.label for line in loss.lines] == ["m"]
    assert (f1.title, f1.lines[0].y.tolist()) == ("dev F1", [10.0])


def test_a_seed_without_a_loss_has_its_scores_alone():
    """The loss before the first step is not known."""
    charts = learning_curves({"m": [_record(1, (1, None), (2, 3.0))]}, {})
    assert charts[0].lines[0].x.tolist() == [2]
    assert charts[1].lines[0].x.tolist() == [1, 2]
