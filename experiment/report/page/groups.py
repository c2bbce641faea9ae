"""Scores by length, kinds of answers against each other, and scores by the threshold of "no answer"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Bucket(NamedTuple):
    """Questions whose length lies between two numbers, both of which belong to it."""

    low: int
    high: int

    def holds(self, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which lengths are in it, [n]."""
        return (lengths >= self.low) & (lengths <= self.high)

    @property
    def text(self) -> str:
        """`12–18`."""
        return f"{self.low}" if self.low == self.high else f"{self.low}–{self.high}"


def buckets(lengths: NDArray[np.int64], n: int = 4) -> list[Bucket]:
    """Divide lengths into at most `n` buckets of about equally many, none empty; equal lengths stay together."""
    uppers = np.unique(np.quantile(lengths, np.arange(1, n + 1) / n, method="inverted_cdf")).astype(int)
    lows = [int(lengths.min()), *(int(lengths[lengths > upper].min()) for upper in uppers[:-1])]
    return [Bucket(low, int(high)) for low, high in zip(lows, uppers, strict=True)]


def confusion(gold: Sequence[str], predicted: Sequence[str], kinds: Sequence[str]) -> NDArray[np.int64]:
    """Count questions by the kind of their annotated (rows) and predicted (columns) answer, [n_kinds, n_kinds]."""
    number = {kind: i for i, kind in enumerate(kinds)}
    counts = np.zeros((len(kinds), len(kinds)), np.int64)
    for pair in zip(gold, predicted, strict=True):
        counts[number[pair[0]], number[pair[1]]] += 1
    return counts


class ThresholdCurve(NamedTuple):
    """A score by the threshold above which the null answer is given.

    Args:
        threshold: float [n], rising; in logits.
        score: float [n], mean over the questions.
    """

    threshold: Floats
    score: Floats

    @property
    def best(self) -> float:
        """The threshold of the highest score, the lowest of equals."""
        return float(self.threshold[np.argmax(self.score)])


def null_difference(nbest: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> tuple[float, str, str] | None:
    """Return null score minus that of the best span, the null answer and that span; None if the list has no null.

    Args:
        nbest: candidates with "text", "start_logit" and "end_logit", best first.
        kinds: text -> kind of the answers that are no spans.

    Returns:
        the difference in logits, infinite without a span.
    """
    nulls = [candidate for candidate in nbest if candidate["text"] in kinds or not candidate["text"]]
    spans = [candidate for candidate in nbest if candidate["text"] not in kinds and candidate["text"]]
    if not nulls:
        return None
    # What the null answer is called stands before the "" of the same logits, see `KindProblem.decode`.
    null = nulls[0]
    if not spans:
        return float("inf"), null["text"], ""
    best = max(spans, key=_score)
    return _score(null) - _score(best), null["text"], best["text"]


def _score(candidate: Mapping[str, Any]) -> float:
    return float(candidate["start_logit"] + candidate["end_logit"])


def threshold_curve(difference: Floats, span_score: Floats, null_score: Floats) -> ThresholdCurve:
    """Return the score at every threshold where it changes: a span is the answer up to a difference of that.

    Args:
        difference: float [n], null score minus span score; may be infinite.
        span_score: float [n], of each question, if its best span is the answer.
        null_score: float [n], if the null answer is.

    Raises:
        ValueError: if all differences are infinite.
    """
    order = np.argsort(difference, kind="stable")
    ordered = difference[order]
    gain = np.cumsum((span_score - null_score)[order])
    last = np.concatenate([np.diff(ordered) != 0, [True]]) & np.isfinite(ordered)
    if not last.any():
        raise ValueError("no question has a span")
    return ThresholdCurve(ordered[last], (null_score.sum() + gain[last]) / len(difference))
