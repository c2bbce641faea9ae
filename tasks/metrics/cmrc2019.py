"""The official metric of CMRC2019: the share of blanks (QAC) and of passages (PAC) that are right.

Source: `eval/cmrc2019_evaluate.py` of ymcui/cmrc2019 @ f3808ee.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preprocess.base.errors import DataError
from tasks.core.prediction import Score


class PassageScorer:
    """Counts right blanks by passage: one without a prediction costs its passage a right one, too, if it has any.

    Args:
        gold: passage to its blanks: id to the right candidate's text; never empty, nor without blanks.

    Raises:
        DataError: there is no blank.
    """

    def __init__(self, gold: Mapping[str, Mapping[str, str]]) -> None:
        """See the class for the arguments."""
        if not any(gold.values()):
            raise DataError("no blank to score: the gold file is empty.")
        self._gold = gold

    def __call__(self, predictions: Mapping[str, Any]) -> Score:
        """Return the score of predictions, id to text or anything `str` takes; ids of no blank are ignored."""
        per_example: dict[str, dict[str, float]] = {}
        n_right = n_passages_right = n_missing = 0
        for blanks in self._gold.values():
            missing = sum(id not in predictions for id in blanks)
            right = {id: id in predictions and str(predictions[id]) == text for id, text in blanks.items()}
            per_example |= {id: {"qac": float(value)} for id, value in right.items()}
            counted = max(0, sum(right.values()) - missing)
            n_right += counted
            n_passages_right += counted == len(blanks)
            n_missing += missing
        values = {"qac": 100 * n_right / len(per_example), "pac": 100 * n_passages_right / len(self._gold)}
        return Score(values, per_example, len(per_example), n_missing)
