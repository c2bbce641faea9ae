"""Plots as values, and as SVG by small templates of our own: axes, lines with a band, bars, and dots per row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size

Floats = NDArray[np.float64]

#: Size of the drawing area and of the room for labels around it, in the unit of the SVG.
_WIDTH, _HEIGHT = 340, 200
_LEFT, _TOP, _BOTTOM, _RIGHT = 62, 12, 44, 14
#: Styles of lines in page.css; further ones start again.
N_STYLES = 8
#: A line of more points is thinned out: nobody sees more on so few pixels.
_MOST_POINTS = 240
_ROW = 26
_LABEL_WIDTH = 140
#: Columns of a terminal that fit into it; a Chinese character takes two.
_LABEL_CELLS = 23


@dataclass(frozen=True)
class Line:
    """One line.

    Args:
        label: in the legend.
        x: float [n], rising.
        y: float [n].
        style: number of its colour and dashes.
        thin: whether it is one of several that a thicker one sums up; not in the legend.
        dots: whether its points are marked.
        low: float [n], lower edge of a band around it, with `high`.
        high: float [n].
    """

    label: str
    x: Floats
    y: Floats
    style: int = 0
    thin: bool = False
    dots: bool = False
    low: Floats | None = None
    high: Floats | None = None


@dataclass(frozen=True)
class Chart:
    """Lines over a common x axis.

    Args:
        title: what it shows.
        x_label: of the axis, with its unit.
        y_label: of the axis, with its unit.
        lines: in the order of the legend.
        x_range: ends of the axis; those of the data if None.
        y_range: likewise.
        diagonal: whether the line y = x is drawn.
        marks: x of vertical lines -> style.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    diagonal: bool = False
    marks: Sequence[tuple[float, int]] = ()


@dataclass(frozen=True)
class Row:
    """A row of dots.

    Args:
        label: left of it.
        values: of the dots.
        names: of the dots.
        mean: gets a stroke.
        interval: drawn as a bar, if there is one.
        style: number of its colour.
    """

    label: str
    values: Sequence[float]
    names: Sequence[str]
    mean: float
    interval: tuple[float, float] | None = None
    style: int = 0


@dataclass(frozen=True)
class Strips:
    """Rows of dots over a common axis."""

    title: str
    x_label: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Bars:
    """Groups of bars, from 0.

    Args:
        title: what they show.
        x_label: what the groups are.
        y_label: of the axis, with its unit.
        groups: their names.
        series: name and style of each bar of a group, and its heights by group; NaN for none.
    """

    title: str
    x_label: str
    y_label: str
    groups: Sequence[str]
    series: Sequence[tuple[str, int, Sequence[float]]]


class Tick(NamedTuple):
    """A mark of an axis: where it is drawn, what stands there, and the whole of it where that is too long."""

    at: float
    text: str
    whole: str = ""


class Box(NamedTuple):
    """The drawing area within the SVG."""

    left: float
    top: float
    width: float
    height: float
    total_width: float
    total_height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height


class Axis(NamedTuple):
    """Values -> places."""

    low: float
    high: float
    first: float
    last: float

    def place(self, value: float) -> float:
        """Return where a value is drawn."""
        return round(self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first), 2)

    def ticks(self, most: int = 6) -> list[Tick]:
        """Return round values within the axis."""
        step = nice_step((self.high - self.low) / most)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [Tick(self.place(n * step), f"{n * step:.{digits}f}") for n in range(first, last + 1)]


def nice_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def padded(low: float, high: float) -> tuple[float, float]:
    """Return a range a little wider, and one of some width where there is none."""
    margin = (high - low) * 0.05 or max(abs(low) * 0.05, 0.5)
    return low - margin, high + margin


@dataclass(frozen=True)
class Drawing:
    """What a template draws: a box, axes' ticks, and shapes in the unit of the SVG."""

    kind: str
    title: str
    x_label: str
    y_label: str
    box: Box
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    shapes: list[dict[str, object]] = field(default_factory=list)
    legend: list[tuple[str, int]] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    table: list[list[str]] = field(default_factory=list)


def _box(left: float = _LEFT, height: float = _HEIGHT) -> Box:
    total = _LEFT + _WIDTH + _RIGHT  # the same for all, so that their letters have one size
    return Box(left, _TOP, total - left - _RIGHT, height, total, _TOP + height + _BOTTOM)


def draw(plot: Chart | Strips | Bars) -> Drawing:
    """Place everything of a plot."""
    if isinstance(plot, Chart):
        return _draw_chart(plot)
    return _draw_strips(plot) if isinstance(plot, Strips) else _draw_bars(plot)


def _ends(values: Iterator[Floats]) -> tuple[float, float]:
    every = np.concatenate([array.ravel() for array in values])
    every = every[np.isfinite(every)]
    return padded(float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)


def _draw_chart(chart: Chart) -> Drawing:
    box = _box()
    x_range = chart.x_range or _ends(line.x for line in chart.lines)
    y_range = chart.y_range or _ends(
        array for line in chart.lines for array in (line.y, line.low, line.high) if array is not None
    )
    x, y = Axis(*x_range, box.left, box.right), Axis(*y_range, box.bottom, box.top)
    shapes: list[dict[str, object]] = []
    if chart.diagonal:
        ends = max(x.low, y.low), min(x.high, y.high)
        shapes.append({"path": _path([(x.place(end), y.place(end)) for end in ends]), "class": "diagonal"})
    for at, style in chart.marks:
        if x.low <= at <= x.high:
            path = _path([(x.place(at), box.top), (x.place(at), box.bottom)])
            shapes.append({"path": path, "class": f"mark s{style % N_STYLES}"})
    for line in chart.lines:
        shapes += _shapes_of(line, x, y)
    legend = [(line.label, line.style % N_STYLES) for line in chart.lines if not line.thin]
    table = [
        [line.label, f"{line.x[i]:.6g}", f"{line.y[i]:.6g}"]
        for line in chart.lines
        for i in thinned(len(line.x), 30)
        if np.isfinite(line.y[i])
    ]
    return Drawing(
        "chart", chart.title, chart.x_label, chart.y_label, box, x.ticks(), y.ticks(), shapes, legend,
        ["", chart.x_label, chart.y_label], table,
    )  # fmt: skip


def _shapes_of(line: Line, x: Axis, y: Axis) -> Iterator[dict[str, object]]:
    kept = [i for i in thinned(len(line.x), _MOST_POINTS) if np.isfinite(line.y[i])]
    style = f"s{line.style % N_STYLES}"
    if line.low is not None and line.high is not None and len(kept) > 1:
        upper = [(x.place(line.x[i]), y.place(line.high[i])) for i in kept]
        lower = [(x.place(line.x[i]), y.place(line.low[i])) for i in reversed(kept)]
        yield {"path": _path(upper + lower) + "Z", "class": f"band {style}"}
    points = [(x.place(line.x[i]), y.place(line.y[i])) for i in kept]
    yield {"path": _path(points), "class": f"{'thin ' if line.thin else ''}line {style}"}
    if line.dots:
        for (cx, cy), i in zip(points, kept, strict=True):
            said = f"{line.label}: {line.x[i]:.4g}, {line.y[i]:.4g}"
            yield {"cx": cx, "cy": cy, "r": 3, "class": f"dot {style}", "said": said}


def thinned(n: int, most: int) -> list[int]:
    """Return the numbers of at most `most` of `n` points, evenly, with the first and the last."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most))}) if n else []


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'L' if i else 'M'}{x:g} {y:g}" for i, (x, y) in enumerate(points))


def _draw_strips(plot: Strips) -> Drawing:
    box = _box(_LABEL_WIDTH, _ROW * len(plot.rows))
    ends = [np.array([*row.values, row.mean, *(row.interval or ())]) for row in plot.rows]
    x = Axis(*_ends(iter(ends)), box.left, box.right)
    shapes: list[dict[str, object]] = []
    y_ticks, table = [], []
    for number, row in enumerate(plot.rows):
        middle, style = box.top + _ROW * (number + 0.5), f"s{row.style % N_STYLES}"
        label = shortened(row.label)
        y_ticks.append(Tick(middle, label, row.label if label != row.label else ""))
        if row.interval is not None:
            low, high = (x.place(end) for end in row.interval)
            shapes.append({"x": low, "y": middle - 5, "width": round(high - low, 2), "height": 10,
                           "class": f"band {style}", "said": ""})  # fmt: skip
        at = x.place(row.mean)
        shapes.append({"path": _path([(at, middle - 9), (at, middle + 9)]), "class": f"line {style}"})
        for name, value in zip(row.names, row.values, strict=True):
            said = f"{row.label}, {name}: {value:.3f}"
            shapes.append({"cx": x.place(value), "cy": middle, "r": 4, "class": f"dot {style}", "said": said})
            table.append([row.label, name, f"{value:.3f}"])
    return Drawing(
        "strips", plot.title, plot.x_label, "", box, x.ticks(), y_ticks, shapes, [], ["model", "seed", plot.x_label],
        table,
    )  # fmt: skip


def shortened(text: str, most: int = _LABEL_CELLS) -> str:
    """Return a text that takes at most so many columns of a terminal: of a longer one its beginning and its end.

    One model that was trained in several ways is told apart by the end of its name.
    """
    if cell_len(text) <= most:
        return text
    n_last = most // 2
    last = set_cell_size(text[::-1], n_last)[::-1].lstrip()
    return f"{set_cell_size(text, most - 1 - n_last).rstrip()}…{last}"


def _draw_bars(plot: Bars) -> Drawing:
    box = _box()
    heights = np.array([values for *_, values in plot.series], float)
    top = float(np.nanmax(heights)) if np.isfinite(heights).any() else 1.0
    y = Axis(0.0, max(top, 1e-9) * 1.02, box.bottom, box.top)
    room = box.width / max(1, len(plot.groups))
    width = room * 0.8 / max(1, len(plot.series))
    shapes: list[dict[str, object]] = []
    x_ticks, table = [], []
    for group, name in enumerate(plot.groups):
        x_ticks.append(Tick(box.left + room * (group + 0.5), name))
        for number, (label, style, values) in enumerate(plot.series):
            if math.isfinite(values[group]):
                left = box.left + room * (group + 0.1) + width * number
                upper = y.place(values[group])
                shapes.append({"x": round(left, 2), "y": upper, "width": round(width, 2),
                               "height": round(box.bottom - upper, 2), "class": f"bar s{style % N_STYLES}",
                               "said": f"{label}, {name}: {values[group]:.2f}"})  # fmt: skip
                table.append([label, name, f"{values[group]:.2f}"])
    legend = [(label, style % N_STYLES) for label, style, _ in plot.series]
    return Drawing(
        "bars", plot.title, plot.x_label, plot.y_label, box, x_ticks, y.ticks(), shapes, legend,
        ["", plot.x_label, plot.y_label], table,
    )  # fmt: skip
