"""Kinds of answers: which were found, as a confusion matrix and a classification report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def kind_report(gold: Mapping[str, str], predicted: Mapping[str, str], kinds: Sequence[str]) -> dict[str, Any]:
    """Compare the kinds of gold and predicted answers.

    Args:
        gold: question id to kind.
        predicted: question id to the predicted kind; ids of no question are ignored.
        kinds: all kinds, in the order of rows and columns.

    Returns:
        JSON-able: "kinds", "confusion" (rows gold, columns predicted), "classification" (scikit-learn's report by
        kind; 0 where it divides by zero), "n_missing" (questions without a prediction, not in either), and "lines" to
        print.
    """
    # scikit-learn takes a second to import.
    from sklearn.metrics import classification_report, confusion_matrix

    names = list(kinds)
    answered = [id for id in gold if id in predicted]
    pairs = [gold[id] for id in answered], [predicted[id] for id in answered]
    matrix = confusion_matrix(*pairs, labels=names).tolist() if answered else [[0] * len(names) for _ in names]
    classes: dict[str, Any] = {}
    printed: list[str] = []
    if answered:
        options: dict[str, Any] = {"labels": names, "zero_division": 0.0}
        classes = classification_report(*pairs, output_dict=True, **options)
        printed = classification_report(*pairs, digits=3, **options).splitlines()
    width = max(map(len, names)) + 2
    lines = ["kind of answer, gold (rows) and predicted:", " " * width + "".join(f"{name:>9}" for name in names)]
    lines += [f"{name:<{width}}" + "".join(f"{n:>9}" for n in row) for name, row in zip(names, matrix, strict=True)]
    n_missing = len(gold) - len(answered)
    lines += [line for line in printed if line.strip()] + [f"without a prediction: {n_missing}"]
    return {
        "kinds": names,
        "confusion": matrix,
        "classification": classes,
        "n_missing": n_missing,
        "lines": lines,
    }
