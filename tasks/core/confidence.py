"""How sure a model is of its answers, and the temperature at which that is the share of them that is right.

Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, 2017), over the n-best list: probabilities
are raised to the reciprocal of the temperature and sum to 1 again, so that no answer and no order changes.

Where lists hold spans and answers that are none (YES, NO, "no answer"), two decisions are learned by two losses, and
a model may be too sure of the one and not sure enough of the other. Then each has a temperature of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.core.prediction import Candidate, Prediction
from tasks.metrics.calibration import log_loss

Floats = NDArray[np.float64]
#: What an answer is called that was not sure enough to be given.
ABSTAINED = "abstained"
#: Temperatures that are looked at; beyond them a model says nothing about its answers.
LOWEST, HIGHEST = 0.05, 20.0
#: The loss is looked at so many places between them, and again so often between the neighbours of the best one.
_N_PLACES, _N_LOOKS = 41, 4
#: Confidences that differ by less are equal but for rounding.
_ROUNDING = 1e-9
#: Stands for a probability of 0, which has no logarithm; and log-odds beyond which all is certain.
_LEAST, _FAR = 1e-300, 700.0
#: How often each of two temperatures is looked for, given the other.
_N_TURNS = 3


class Temperatures(NamedTuple):
    """Of lists that hold spans and null answers, which are no spans.

    Args:
        spans: of the shares of spans in what all of them have.
        null: of the log-odds of null answers against spans, and of the shares among null answers.
    """

    spans: float
    null: float


#: One for a whole list, or two.
Temperature = float | Temperatures


def temperature_from(temperature: float, null_temperature: float | None) -> Temperature:
    """Return what files keep as two numbers, of which the second may be missing."""
    return temperature if null_temperature is None else Temperatures(temperature, null_temperature)


def confidences(nbest: Sequence[Candidate], temperature: Temperature = 1.0) -> list[float]:
    """Return the share of each candidate in the probability of its list, 0-1.

    A null answer that is a text ("YES") stands in a list once more as "" (`KindProblem.decode`). The two are one
    answer: both have its share, which counts once in the sum of 1.

    Args:
        nbest: of one question.
        temperature: above 0.
    """
    if not nbest:
        return []
    (shares,) = _shares(_Lists.of([nbest]), temperature)
    return [float(share) for share in shares]


def twins(nbest: Sequence[Candidate]) -> list[bool]:
    """Tell which candidates are "" for a null answer that stands in the list as a text, too."""
    texts = {_logits(c) for c in nbest if c.text and c.char_start < 0}
    return [not c.text and _logits(c) in texts for c in nbest]


def chosen_place(prediction: Prediction) -> int | None:
    """Return where the answer stands in its n-best list; None if it does not."""
    answer = prediction.text, prediction.char_start, prediction.char_end
    places = [i for i, c in enumerate(prediction.nbest) if (c.text, c.char_start, c.char_end) == answer]
    texts = [i for i, c in enumerate(prediction.nbest) if c.text == prediction.text]
    return next(iter(places or texts), None)


def confidence_of(prediction: Prediction, temperature: Temperature = 1.0) -> float:
    """Return how sure the answer is, 0-1; 0 for one that does not stand in its list."""
    place = chosen_place(prediction)
    return 0.0 if place is None else confidences(prediction.nbest, temperature)[place]


def calibrated(predictions: Mapping[str, Prediction], temperature: Temperature) -> dict[str, Prediction]:
    """Return predictions whose n-best lists have the probabilities of a temperature; 1 leaves them as they are."""
    if temperature == 1:
        return dict(predictions)
    return {id: _calibrated(prediction, temperature) for id, prediction in predictions.items()}


def _calibrated(prediction: Prediction, temperature: Temperature) -> Prediction:
    shares = confidences(prediction.nbest, temperature)
    nbest = tuple(c._replace(probability=share) for c, share in zip(prediction.nbest, shares, strict=True))
    return replace(prediction, nbest=nbest)


def abstaining(predictions: Mapping[str, Prediction], least: float) -> dict[str, Prediction]:
    """Return predictions of which those are empty, of the kind `ABSTAINED`, that are less sure than this, 0-1.

    Their n-best lists stay. An answer that is empty already is one: that there is no answer.
    """
    return {
        id: replace(prediction, text="", char_start=-1, char_end=-1, kind=ABSTAINED)
        if prediction.text and confidence_of(prediction) < least - _ROUNDING
        else prediction
        for id, prediction in predictions.items()
    }


def fit_temperature(predictions: Sequence[Prediction], correct: Sequence[float]) -> Temperature:
    """Return the temperature, `LOWEST` to `HIGHEST`, at which answers are likeliest to be as right as they are.

    Args:
        predictions: of n questions, at least one, at temperature 1.
        correct: how right each is, 0-1.

    Returns:
        two where lists hold spans and null answers, and questions are answered by both.
    """
    chosen, lists, right = _chosen(predictions), _Lists.of([p.nbest for p in predictions]), np.asarray(correct, float)

    def loss(temperature: Temperature) -> float:
        return log_loss(_taken(_shares(lists, temperature), chosen), right)

    def loss_of_both(spans: float, null: float) -> float:
        return loss(Temperatures(spans, null))

    answered_null = {bool(lists.null[row, at]) for row, at in enumerate(chosen) if at is not None}
    if len(answered_null) < 2:
        return _least(loss)
    # How sure a null answer is depends on one of them alone, so that a few turns are enough.
    spans = null = 1.0
    for _ in range(_N_TURNS):
        null = _least(partial(loss_of_both, spans))
        spans = _least(partial(loss_of_both, null=null))
    return Temperatures(spans, null)


def _least(loss: Callable[[float], float]) -> float:
    """Return the temperature of least loss, which may have several valleys."""
    low, high = float(np.log(LOWEST)), float(np.log(HIGHEST))
    for _ in range(_N_LOOKS):
        places = np.linspace(low, high, _N_PLACES)
        best = int(np.argmin([loss(float(np.exp(place))) for place in places]))
        low, high = places[max(best - 1, 0)], places[min(best + 1, _N_PLACES - 1)]
    return float(np.clip(np.exp(places[best]), LOWEST, HIGHEST))


def all_confidences(predictions: Sequence[Prediction], temperature: Temperature = 1.0) -> Floats:
    """Return `confidence_of` each prediction, [n]."""
    return _taken(_shares(_Lists.of([p.nbest for p in predictions]), temperature), _chosen(predictions))


class _Lists(NamedTuple):
    """N-best lists of n questions, padded.

    Args:
        logarithm: float64 [n, K], of each probability; -inf behind the end of a list.
        twin: bool [n, K], whether the candidate stands there as a text, too.
        null: bool [n, K], whether it is no span.
        lengths: of each list.
    """

    logarithm: Floats
    twin: NDArray[np.bool_]
    null: NDArray[np.bool_]
    lengths: list[int]

    @classmethod
    def of(cls, lists: Sequence[Sequence[Candidate]]) -> _Lists:
        lengths = [len(nbest) for nbest in lists]
        logarithm = np.full((len(lists), max(lengths, default=0)), -np.inf)
        twin, null = np.zeros((2, *logarithm.shape), bool)
        for row, nbest in enumerate(lists):
            logarithm[row, : len(nbest)] = np.log(np.maximum([c.probability for c in nbest], _LEAST))
            twin[row, : len(nbest)] = twins(nbest)
            null[row, : len(nbest)] = [c.char_start < 0 for c in nbest]
        return cls(logarithm, twin, null, lengths)


def _shares(lists: _Lists, temperature: Temperature) -> list[Floats]:
    if isinstance(temperature, Temperatures):
        return _shares_of_both(lists, temperature)
    scaled = (lists.logarithm - lists.logarithm.max(axis=1, keepdims=True)) / temperature
    exponential = np.exp(scaled)
    shares = exponential / np.where(lists.twin, 0.0, exponential).sum(axis=1, keepdims=True)
    return [row[:length] for row, length in zip(shares, lists.lengths, strict=True)]


def _shares_of_both(lists: _Lists, temperature: Temperatures) -> list[Floats]:
    """Return the shares where null answers and spans have temperatures of their own."""
    absent = np.full_like(lists.logarithm, -np.inf)
    null, span = lists.null & ~lists.twin, ~lists.null
    with np.errstate(invalid="ignore"):  # of -inf and -inf, where a list has none of a group
        of_group = [np.logaddexp.reduce(np.where(each, lists.logarithm, absent), axis=1) for each in (null, span)]
        odds = np.clip((of_group[0] - of_group[1]) / temperature.null, -_FAR, _FAR)
        parts = []
        for each, members, at, sign in (
            (null, lists.null, temperature.null, 1.0),
            (span, span, temperature.spans, -1.0),
        ):
            scaled = lists.logarithm / at
            within = scaled - np.logaddexp.reduce(np.where(each, scaled, absent), axis=1)[:, None]
            parts.append(np.where(members, within - np.logaddexp(0.0, -sign * odds)[:, None], 0.0))
    shares = np.exp(parts[0] + parts[1])
    return [row[:length] for row, length in zip(shares, lists.lengths, strict=True)]


def _chosen(predictions: Sequence[Prediction]) -> list[int | None]:
    return [chosen_place(prediction) for prediction in predictions]


def _taken(shares: Sequence[Floats], chosen: Sequence[int | None]) -> Floats:
    return np.array([0.0 if at is None else row[at] for row, at in zip(shares, chosen, strict=True)])


def _logits(candidate: Candidate) -> tuple[float, float]:
    return candidate.start_logit, candidate.end_logit
