"""Accuracy over questions with options, in all and of parts of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preprocess.base.errors import DataError
from tasks.core.prediction import Score


class AccuracyScorer:
    """The share of questions that are answered with the right option, as texts.

    Args:
        gold: question id to the right option's text; never empty.
        parts: name to ids of the questions whose accuracy is told by itself, as "accuracy_<name>", if there are any.

    Raises:
        DataError: there is no question.
    """

    def __init__(self, gold: Mapping[str, str], parts: Mapping[str, frozenset[str]] | None = None) -> None:
        """See the class for the arguments."""
        if not gold:
            raise DataError("no question to score: the gold file is empty.")
        self._gold = dict(gold)
        self._parts = {name: ids for name, ids in (parts or {}).items() if ids}

    def __call__(self, predictions: Mapping[str, Any]) -> Score:
        """Return the score of predictions, id to text or anything `str` takes; ids of no question are ignored."""
        right = {id: float(id in predictions and str(predictions[id]) == text) for id, text in self._gold.items()}
        values = {"accuracy": 100 * sum(right.values()) / len(right)}
        for name, ids in self._parts.items():
            values[f"accuracy_{name}"] = 100 * sum(right[id] for id in ids) / len(ids)
        n_missing = sum(id not in predictions for id in self._gold)
        return Score(values, {id: {"accuracy": value} for id, value in right.items()}, len(right), n_missing)
