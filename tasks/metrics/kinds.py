"""Kinds of answers: which were found, as a confusion matrix and a classification report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLUMNS = ("precision", "recall", "f1-score", "support")
#: Of a report's first column, as scikit-learn's: that of its longest line.
_WIDTH = len("weighted avg")


def kind_report(gold: Mapping[str, str], predicted: Mapping[str, str], kinds: Sequence[str]) -> dict[str, Any]:
    """Compare the kinds of gold and predicted answers.

    Args:
        gold: question id to kind.
        predicted: question id to the predicted kind; ids of no question are ignored.
        kinds: all kinds, in the order of rows and columns.

    Returns:
        JSON-able: "kinds", "confusion" (rows gold, columns predicted), "classification" (as scikit-learn's
        classification_report, with 0 where it divides by zero), "n_missing" (questions without a prediction, not in
        either), and "lines" to print.
    """
    names = list(kinds)
    pairs = [(gold[id], predicted[id]) for id in gold if id in predicted]
    matrix = [[pairs.count((row, column)) for column in names] for row in names]
    classes = _classification(pairs, names) if pairs else {}
    width = max(map(len, names)) + 2
    lines = ["kind of answer, gold (rows) and predicted:", " " * width + "".join(f"{name:>9}" for name in names)]
    lines += [f"{name:<{width}}" + "".join(f"{n:>9}" for n in row) for name, row in zip(names, matrix, strict=True)]
    n_missing = len(gold) - len(pairs)
    lines += [*_lines(classes, names), f"without a prediction: {n_missing}"]
    return {
        "kinds": names,
        "confusion": matrix,
        "classification": classes,
        "n_missing": n_missing,
        "lines": lines,
    }


def _classification(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> dict[str, Any]:
    """Return precision, recall, F1 and support of each kind, and their averages.

    The F1 is 2 tp / (gold + predicted), which rounds otherwise than the harmonic mean of precision and recall.
    """
    right = np.array([pairs.count((name, name)) for name in names], np.float64)
    gold = np.array([sum(row == name for row, _ in pairs) for name in names], np.float64)
    found = np.array([sum(column == name for _, column in pairs) for name in names], np.float64)
    values = _fractions(right, gold, found)
    report: dict[str, Any] = {
        name: dict(zip(_COLUMNS, [*column, n], strict=True))
        for name, column, n in zip(names, values.T.tolist(), gold.tolist(), strict=True)
    }
    n = float(gold.sum())
    if {kind for pair in pairs for kind in pair} <= set(names):
        report["accuracy"] = float(right.sum() / n)
    else:
        micro = _fractions(*(np.atleast_1d(each.sum()) for each in (right, gold, found)))[:, 0]
        report["micro avg"] = dict(zip(_COLUMNS, [*micro.tolist(), n], strict=True))
    report["macro avg"] = dict(zip(_COLUMNS, [*(float(np.mean(row)) for row in values), n], strict=True))
    weighted = [float(np.average(row, weights=gold)) if n else 0.0 for row in values]
    report["weighted avg"] = dict(zip(_COLUMNS, [*weighted, n], strict=True))
    return report


def _fractions(
    right: NDArray[np.float64], gold: NDArray[np.float64], found: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return precision, recall and F1 as rows, 0 where one divides by 0."""
    parts = ((right, found), (right, gold), (2 * right, gold + found))
    return np.stack([np.divide(above, below, out=np.zeros_like(above), where=below != 0) for above, below in parts])


def _lines(classes: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return the report as scikit-learn prints it, without its empty lines."""
    if not classes:
        return []
    width = max(_WIDTH, *map(len, names))
    lines = [" " * width + " " + "".join(f" {title:>9}" for title in _COLUMNS)]
    n = classes["macro avg"]["support"]
    for name, values in classes.items():
        if name == "accuracy":
            cells = ["", "", f"{values:.3f}", str(int(n))]
        else:
            cells = [*(f"{values[column]:.3f}" for column in _COLUMNS[:3]), str(int(values["support"]))]
        lines.append(f"{name:>{width}} " + "".join(f" {cell:>9}" for cell in cells))
    return lines
