"""How sure a model may be: the temperature at which its confidence is the share of its answers that is right.

Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, 2017), over the n-best list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiment.reading.results import chosen_place, confidences
from experiment.report.page.calibration import Floats, reliability
from tasks.core.prediction import Prediction

#: Temperatures that are looked at; beyond them a model says nothing about its answers.
_LOWEST, _HIGHEST = 0.05, 20.0
_GOLDEN = (5**0.5 - 1) / 2
#: Steps of the search, each of which leaves 62 % of the interval: to a ten thousandth of it.
_STEPS = 40
_LEAST = 1e-12


class Calibration(NamedTuple):
    """What was found on the questions of a file.

    Args:
        temperature: that makes the right answers likeliest.
        n_questions: that it was found on.
        error_before: expected calibration error at temperature 1, 0-1.
        error_after: at this one.
    """

    temperature: float
    n_questions: int
    error_before: float
    error_after: float


def calibrated(predictions: Sequence[Prediction], correct: Sequence[float]) -> Calibration:
    """Find the temperature.

    Args:
        predictions: of n questions, at least one.
        correct: how right each is, 0-1.
    """
    labels = np.asarray(correct, np.float64)

    def sure(temperature: float) -> Floats:
        return np.array([_confidence(prediction, temperature) for prediction in predictions])

    def loss(logarithm: float) -> float:
        share = np.clip(sure(float(np.exp(logarithm))), _LEAST, 1 - _LEAST)
        return -float(np.mean(labels * np.log(share) + (1 - labels) * np.log(1 - share)))

    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    inner = [high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)]
    losses = [loss(place) for place in inner]
    for _ in range(_STEPS):
        if losses[0] <= losses[1]:
            high, inner[1], losses[1] = inner[1], inner[0], losses[0]
            inner[0] = high - _GOLDEN * (high - low)
            losses[0] = loss(inner[0])
        else:
            low, inner[0], losses[0] = inner[0], inner[1], losses[1]
            inner[1] = low + _GOLDEN * (high - low)
            losses[1] = loss(inner[1])
    temperature = float(np.exp((low + high) / 2))
    before, after = (reliability(sure(each), labels).error for each in (1.0, temperature))
    return Calibration(temperature, len(labels), before, after)


def _confidence(prediction: Prediction, temperature: float) -> float:
    place = chosen_place(prediction)
    return 0.0 if place is None else confidences(prediction.nbest, temperature)[place]
