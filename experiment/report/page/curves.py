"""Records -> plots of how they were trained, and of how far their seeds lie apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiment.report.entries import Entry
from experiment.report.page.plots import Chart, Line, Row, Strips
from experiment.training.record import Record

#: Names of metrics as titles say them.
TITLES = {"em": "EM", "f1": "F1", "mrr": "MRR"}


def title_of(metric: str) -> str:
    """Return what a metric is called: F1, EM, or its name."""
    return TITLES.get(metric, metric)


def learning_curves(records: Mapping[str, Sequence[Record]], styles: Mapping[str, int]) -> list[Chart]:
    """Return a plot of the loss and of each metric that selects the checkpoint, by epochs.

    Each seed is a thin line; where several were evaluated at the same step, a thick one is their mean, and the band
    reaches from the lowest to the highest.

    Args:
        records: model -> its seeds, of one task.
        styles: model -> number of its colour.
    """
    metrics = dict.fromkeys(name for seeds in records.values() for record in seeds for name in record.selection)
    plots = [("loss", "mean loss since the last evaluation", lambda evaluation: evaluation.get("loss"))]
    plots += [(f"dev {title_of(name)}", f"{title_of(name)} in %", _dev(name)) for name in metrics]
    charts = []
    for title, unit, value in plots:
        lines = [
            line for model, seeds in records.items() for line in _lines(model, seeds, styles.get(model, 0), value)
        ]
        if lines:
            charts.append(Chart(title, "epochs", unit, lines))
    return charts


def _dev(metric: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda evaluation: evaluation.get("dev", {}).get(metric)


def _lines(
    model: str, seeds: Sequence[Record], style: int, value: Callable[[Mapping[str, Any]], Any]
) -> Iterator[Line]:
    curves = []
    for record in seeds:
        points = [(e.get("epoch", e["step"]), value(e)) for e in record.evaluations if value(e) is not None]
        if points:
            x, y = np.array(points, float).T
            curves.append((f"seed {record.seed}", x, y))
    if len(curves) == 1:
        yield Line(model, curves[0][1], curves[0][2], style=style, dots=True)
        return
    for seed, x, y in curves:
        yield Line(f"{model}, {seed}", x, y, style=style, thin=True, dots=True)
    if curves:
        common = sorted(set.intersection(*(set(x) for _, x, _ in curves)))
        values = np.array([[y[list(x).index(at)] for at in common] for _, x, y in curves])
        if common:
            yield Line(
                model, np.array(common), values.mean(axis=0), style=style, low=values.min(axis=0),
                high=values.max(axis=0),
            )  # fmt: skip


def distributions(
    entries: Sequence[tuple[str, Entry]],
    seeds: Mapping[tuple[str, str], Sequence[tuple[str, Mapping[str, float]]]],
    styles: Mapping[str, int],
) -> list[Strips]:
    """Return a plot per metric of the scores of all seeds of all models on one split.

    Args:
        entries: what each model is called, and its entry with intervals.
        seeds: (model, split) -> name and scores in percent of each seed.
        styles: model -> number of its colour.
    """
    metrics = dict.fromkeys(name for _, entry in entries for name in entry.shown)
    plots = []
    for metric in metrics:
        rows = []
        for model, entry in entries:
            found = [(seed, s[metric]) for seed, s in seeds.get((model, entry.split), ()) if metric in s]
            value = entry.values.get(metric)
            if not found or value is None or value.mean is None:
                continue
            interval = (value.interval.low, value.interval.high) if value.interval is not None else None
            names, numbers = zip(*found, strict=True)
            rows.append(Row(model, numbers, names, value.mean, interval, styles.get(model, 0)))
        if rows:
            plots.append(Strips(f"{title_of(metric)} of each seed", f"{title_of(metric)} in %", rows))
    return plots
