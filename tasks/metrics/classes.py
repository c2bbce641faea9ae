"""Classes: how many are right; and, of candidates for a question, whether the right ones come first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from preprocess.base.errors import DataError
from tasks.core.prediction import Score
from tasks.metrics.gold import require_questions

_Find = Callable[[object], str]


class AccuracyScorer:
    """The share of examples whose class is right.

    Args:
        gold: id -> class; never empty.
        find: makes a class of what stands in a file of predictions.

    Raises:
        DataError: there is no example.
    """

    def __init__(self, gold: Mapping[str, str], find: _Find) -> None:
        """Keep the gold."""
        require_questions(gold)
        self._gold, self._find = gold, find

    def __call__(self, predictions: Mapping[str, object]) -> Score:
        """Return "accuracy"; a missing prediction is wrong."""
        per_example = {
            id: {"accuracy": float(id in predictions and self._find(predictions[id]) == label)}
            for id, label in self._gold.items()
        }
        n_right = sum(scores["accuracy"] for scores in per_example.values())
        n_missing = len(self._gold.keys() - predictions.keys())
        return Score({"accuracy": 100 * n_right / len(per_example)}, per_example, len(per_example), n_missing)


class RankingScorer:
    """Candidates of a question, ranked by how probable each is right.

    MRR is the mean over questions of 1 / rank of the first right candidate, 0 where none is right; among candidates
    of equal score every order is as likely, and the mean over these orders counts. F1 is that of the candidates
    found right, which are those of a probability of at least a half. A candidate without a prediction is in no
    ranking, and is wrong.

    Args:
        gold: id -> whether the candidate is right; never empty.
        groups: id -> question.

    Raises:
        DataError: there is no example.
    """

    def __init__(self, gold: Mapping[str, bool], groups: Mapping[str, str]) -> None:
        """Put the candidates of each question together."""
        require_questions(gold)
        self._gold = gold
        self._of_question: dict[str, list[str]] = {}
        for id in gold:
            self._of_question.setdefault(groups[id], []).append(id)

    def __call__(self, predictions: Mapping[str, object]) -> Score:
        """Return "mrr", "f1" and "accuracy", given probabilities (or classes 0 and 1) by id.

        Raises:
            DataError: if a prediction is no number.
        """
        scores = {id: _number(id, predictions[id]) for id in self._gold if id in predictions}
        found = {id: scores.get(id, -math.inf) >= 0.5 for id in self._gold}
        n_both = sum(found[id] and right for id, right in self._gold.items())
        n_either = sum(found.values()) + sum(self._gold.values())
        per_example: dict[str, dict[str, float]] = {}
        total = 0.0
        for ids in self._of_question.values():
            rank = reciprocal_rank([(scores[id], self._gold[id]) for id in ids if id in scores])
            total += rank
            for id in ids:
                right = id in predictions and found[id] == self._gold[id]
                per_example[id] = {"accuracy": float(right), "mrr": rank}
        values = {
            "mrr": 100 * total / len(self._of_question),
            "f1": 200 * n_both / n_either if n_either else 0.0,
            "accuracy": 100 * sum(one["accuracy"] for one in per_example.values()) / len(per_example),
        }
        ordered = {id: per_example[id] for id in self._gold}
        return Score(values, ordered, len(ordered), len(self._gold.keys() - predictions.keys()))


def reciprocal_rank(candidates: Sequence[tuple[float, bool]]) -> float:
    """Return the expected 1 / rank of the first right one of candidates (score, whether right); 0 if none is."""
    if not any(right for _, right in candidates):
        return 0.0
    best = max(score for score, right in candidates if right)
    n_before = sum(score > best for score, _ in candidates)
    tied = [right for score, right in candidates if score == best]
    n, n_right = len(tied), sum(tied)
    ways = math.comb(n, n_right)
    # The first right one stands at this place of the tied ones if the others of them stand behind it.
    return sum(
        math.comb(n - 1 - place, n_right - 1) / ways / (n_before + place + 1) for place in range(n - n_right + 1)
    )


def _number(id: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise DataError(f"{id!r} has {str(value)!r}; the probability that it is right was expected, such as 0.7")
    return number
