"""A span whose end is read given its start, or that there is none: what XLNet's published head says of SQuAD 2.0.

The rules are those of zihangdai/xlnet: `get_qa_outputs` (function_builder.py) for the head, `run_squad.py` for its
loss and `write_predictions`. Positions compete within the context and the token that stands for "no answer". Each of
the best starts has ends of its own; a span scores the sum of the logarithms of both probabilities. How sure the model
is that a question has no answer is one number per window, the least of which decides: no probability of a span
enters into it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.template import answer_mask
from preprocess.types import FeatureSet, HeadSpec, Output, Outputs
from tasks.core.prediction import DecodeOptions
from tasks.problems.kinds import KindProblem, Nulls, Watcher
from tasks.problems.span_search import LOWEST, Best, Spans, drop_empty_pieces, each_once, refuse_infinite, top


@dataclass(frozen=True)
class ConditionedProblem(KindProblem):
    """The answer is a span of the context, or that there is none, and its end depends on its start.

    Args:
        n_starts: how many starts of each window are searched for their ends.
        n_ends: how many ends of each are.
    """

    n_starts: int = 5
    n_ends: int = 5

    def __post_init__(self) -> None:
        """Refuse several kinds of null answers, a fault of the task: the head tells none apart."""
        assert len(self.texts) == 1, "there is one kind of answer beside spans"

    @property
    def name(self) -> str:
        """The problem; what `encode` does depends on no parameter."""
        return "conditioned"

    @property
    def head(self) -> HeadSpec:
        """Start, end given the start, and the logarithm of the odds that there is no answer."""
        return HeadSpec(
            (
                Output("start", reads="token", size=1, loss="position", weight=0.5, among="answers"),
                Output(
                    "end",
                    reads="token_given",
                    size=1,
                    loss="position",
                    weight=0.5,
                    among="answers",
                    given="start",
                    beams=self.n_starts,
                ),
                Output("unanswerable", reads="sequence_given", size=1, loss="binary", weight=0.5, given="start"),
            )
        )

    def chance(self, features: FeatureSet) -> float:
        """Return the loss of a model that finds all possible positions, and both answerabilities, equally likely."""
        return float(np.log(features.doc_length + 1).mean()) + math.log(2) / 2

    def _watcher(self, features: FeatureSet) -> Watcher:
        return _Odds(features)

    def _search(self, features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions) -> Best:
        return best_given(features, outputs, self.n_starts, self.n_ends)


def best_given(features: FeatureSet, outputs: Iterable[Outputs], n_starts: int, n_ends: int) -> Best:
    """Return the best starts of every window, and the best ends of each of them.

    Args:
        features: W windows.
        outputs: batches that hold every window once; "start" [B, L], and "end" [B, L, K] of the K best starts in the
            order of `Output`.
        n_starts: the largest K.
        n_ends: of each start.

    Returns:
        positions with the logarithms of their probabilities for scores.

    Raises:
        DataError: if a value is not finite, or a window is missing or comes twice.
    """
    best = Best.empty(len(features), n_starts, n_starts, n_ends)
    for batch in each_once(features, outputs):
        window = np.asarray(batch.window)
        # [1 + K, B, L]: the starts, and the ends of each.
        scores = np.stack((batch.values["start"], *np.moveaxis(batch.values["end"], 2, 0))).astype(np.float32)
        n, _, width = scores.shape
        np.copyto(scores, LOWEST, where=~answer_mask(features, window, np.arange(width)[None]))
        refuse_infinite(scores, window)
        total = _log_sum(scores)
        # Ranked before the logarithm of the sum rounds them: the model has chosen its K starts by these numbers.
        start, start_logit = top(scores[0], n - 1)
        best.start[window, : n - 1] = start
        best.start_logit[window, : n - 1] = start_logit - total[0, :, None]
        end, end_logit = top(scores[1:].reshape(-1, width), n_ends)
        kept = end.shape[1]
        shape = n - 1, len(window), kept
        best.end[window, : n - 1, :kept] = end.reshape(shape).swapaxes(0, 1)
        best.end_logit[window, : n - 1, :kept] = (end_logit.reshape(shape) - total[1:, :, None]).swapaxes(0, 1)
    for positions in (best.start, best.end.reshape(len(features), -1)):
        drop_empty_pieces(features, positions)
    return best


def _log_sum(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithm of the sum of exponentials along the last axis."""
    largest = scores.max(axis=-1, keepdims=True)
    return (largest + np.log(np.exp(scores - largest).sum(axis=-1, keepdims=True)))[..., 0]


class _Odds:
    """A `Watcher` of how sure the model is that there is no answer: the least sure window of a question decides."""

    def __init__(self, features: FeatureSet) -> None:
        self._first = np.flatnonzero(np.diff(features.example_index, prepend=-1))
        self._odds = np.zeros(len(features), np.float32)

    def watch(self, outputs: Iterable[Outputs]) -> Iterator[Outputs]:
        """Yield the batches unchanged."""
        for batch in outputs:
            odds = batch.values["unanswerable"]
            if not np.isfinite(odds).all():
                window = batch.window[int(np.argmin(np.isfinite(odds)))]
                raise DataError(f"window {window}: its odds of no answer are not finite: the model has diverged.")
            self._odds[np.asarray(batch.window)] = odds
            yield batch

    def nulls(self, best: Spans) -> Nulls:
        """Return null answers that score their odds more than the best span, so that lists show how sure they are."""
        odds = np.minimum.reduceat(self._odds, self._first)
        score, difference = np.zeros(len(odds), np.float32), np.full(len(odds), np.inf)
        score[best.example], difference[best.example] = best.score, odds[best.example]
        return Nulls(odds, score, np.zeros(len(odds), np.int64), difference)
