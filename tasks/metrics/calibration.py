"""How well a model knows when it is right: reliability, expected calibration error, risk against coverage.

Guo et al., On Calibration of Modern Neural Networks, 2017; Geifman and El-Yaniv, Selective Classification for Deep
Neural Networks, 2017.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

N_BINS = 10
#: The metrics that say whether an answer is right, each for tasks that are scored by it.
_EXACT = ("em", "accuracy")
#: The surest an answer may be in a loss: a single candidate has all of the probability, and may be wrong.
_SUREST = 1 - 1e-6

Floats = NDArray[np.float64]


def exact_of(metrics: Iterable[str]) -> str:
    """Return the metric, of some, by which an answer is right or wrong: the first, if none is made for that."""
    names = list(metrics)
    return next((name for name in _EXACT if name in names), next(iter(names), ""))


def without_twin(nbest: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Return an n-best list in which the null answer stands once.

    As YES or NO it stands there once more as "" with the same logits, so that the probability of having no span can
    always be read (`KindProblem.decode`); the two are one answer.

    Args:
        nbest: candidates with "text" and the logits.
        kinds: text -> kind of the answers that are no spans.
    """
    logits = {_logits(candidate) for candidate in nbest if candidate["text"] and candidate["text"] in kinds}
    return [candidate for candidate in nbest if candidate["text"] or _logits(candidate) not in logits]


def _logits(candidate: Mapping[str, Any]) -> tuple[Any, Any]:
    return candidate.get("start_logit"), candidate.get("end_logit")


def confidence(nbest: Sequence[Mapping[str, Any]], answer: str) -> float:
    """Return the share of an answer in the probability of its n-best list, 0-1; NaN if it is not in it."""
    total = sum(candidate["probability"] for candidate in nbest)
    for candidate in nbest:
        if candidate["text"] == answer and total > 0:
            return float(candidate["probability"] / total)
    return float("nan")


class Reliability(NamedTuple):
    """Questions by their confidence, in bins of equal width.

    Args:
        n_questions: int [n_bins], in each.
        confidence: float [n_bins], their mean; NaN of an empty bin.
        accuracy: float [n_bins], share of them that is right; NaN of an empty bin.
    """

    n_questions: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """Expected calibration error, 0-1: mean distance of accuracy from confidence, by questions."""
        filled = self.n_questions > 0
        distance = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(np.average(distance, weights=self.n_questions[filled]))


def reliability(confidence: Floats, correct: Floats, n_bins: int = N_BINS) -> Reliability:
    """Put questions into bins of equal width; a bin's lower edge belongs to it, 1 to the last.

    Args:
        confidence: float [n], 0-1.
        correct: float [n], 0-1.
        n_bins: number of bins.
    """
    edges = np.arange(1, n_bins) / n_bins
    number = np.searchsorted(edges, confidence, side="right")
    count = np.bincount(number, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(number, values, n_bins) / count for values in (confidence, correct)]
    return Reliability(count, *means)


class RiskCoverage(NamedTuple):
    """Error among the questions that a model is surest of.

    Args:
        coverage: float [n], share of the questions that are answered, rising to 1.
        risk: float [n], share of those that is wrong.
    """

    coverage: Floats
    risk: Floats

    @property
    def area(self) -> float:
        """Mean risk over all coverages, 0-1; the lower, the better the confidence tells right from wrong."""
        return float(self.risk.mean())

    def accuracy_at(self, coverage: float) -> float:
        """Return how many of the surest answers are right, 0-1, if only this share of them, 0-1, is given."""
        return 1 - float(np.interp(coverage, self.coverage, self.risk))


def risk_coverage(confidence: Floats, correct: Floats) -> RiskCoverage:
    """Answer the surest questions first; those of equal confidence in no order, so that each is wrong in part.

    Args:
        confidence: float [n].
        correct: float [n], 0-1.
    """
    order = np.argsort(-confidence, kind="stable")
    wrong = np.concatenate([[0.0], np.cumsum(1 - correct[order])])
    rank = np.arange(len(order) + 1)
    ends = np.concatenate([[True], np.diff(confidence[order]) != 0, [True]]).astype(bool)
    wrong = np.interp(rank, rank[ends], wrong[ends])
    return RiskCoverage(rank[1:] / len(order), wrong[1:] / rank[1:])


def log_loss(confidence: Floats, correct: Floats) -> float:
    """Return the mean negative log-likelihood of answers being as right as they are, in nats.

    Args:
        confidence: float [n], 0-1.
        correct: float [n], 0-1.
    """
    sure = np.clip(confidence, 1 - _SUREST, _SUREST)
    return -float(np.mean(correct * np.log(sure) + (1 - correct) * np.log(1 - sure)))
