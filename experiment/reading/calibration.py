"""The temperature of a model's confidence: found on one half of a file's texts, tried on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiment.inputs.partition import draw, groups_of
from preprocess.base.errors import DataError
from preprocess.types import Example
from tasks.core.confidence import Temperature, Temperatures, all_confidences, fit_temperature, temperature_from
from tasks.core.prediction import Prediction
from tasks.metrics.calibration import exact_of, log_loss, reliability


@dataclass(frozen=True)
class Calibration:
    """What was found on the questions of a file.

    Args:
        temperature: at which answers of the first half are likeliest to be as right as they are; of spans where there
            are two.
        null_temperature: of answers that are no spans, if they have one of their own.
        metric: that says how right they are.
        n_fitted: questions of that half.
        n_held_out: questions of the other one, which all that follows is about.
        error_before: expected calibration error at temperature 1, 0-1.
        error_after: at this one.
        loss_before: mean negative log-likelihood of being right, in nats, at temperature 1.
        loss_after: at this one.
        data_sha256: of the file.
    """

    temperature: float
    metric: str
    n_fitted: int
    n_held_out: int
    error_before: float
    error_after: float
    loss_before: float
    loss_after: float
    null_temperature: float | None = None
    data_sha256: str = ""

    @property
    def scale(self) -> Temperature:
        """What confidence is computed with."""
        return temperature_from(self.temperature, self.null_temperature)

    def as_json(self) -> dict[str, Any]:
        """Return it as a checkpoint keeps it."""
        return asdict(self)


def calibration_of(
    examples: Sequence[Example],
    predictions: Mapping[str, Prediction],
    scores: Mapping[str, Mapping[str, float]],
    seed: int = 0,
) -> Calibration:
    """Find the temperature on one half of the texts, and try it on the other.

    Args:
        examples: the questions of a file; those of one article or text stay together.
        predictions: by question id, at temperature 1.
        scores: question id -> metric -> 0-1.
        seed: of the draw of the half.

    Raises:
        DataError: if there are no two texts.
    """
    groups = groups_of([[("group", e.group) if e.group else ("id", e.id), ("text", e.context)] for e in examples])
    if len(groups) < 2:
        raise DataError("holds questions about one article only; calibration needs texts for two halves")
    half = draw(groups, [""] * len(groups), 0.5, seed)
    metric = exact_of(next(iter(scores.values()), {}))
    fitted, held_out = (
        [example.id for number, example in enumerate(examples) if (number in half) == first]
        for first in (True, False)
    )
    scale = fit_temperature([predictions[id] for id in fitted], [scores[id][metric] for id in fitted])
    right = np.array([scores[id][metric] for id in held_out])
    sure = [all_confidences([predictions[id] for id in held_out], at) for at in (1.0, scale)]
    errors = [reliability(each, right).error for each in sure]
    losses = [log_loss(each, right) for each in sure]
    return Calibration(
        temperature=scale.spans if isinstance(scale, Temperatures) else scale,
        null_temperature=scale.null if isinstance(scale, Temperatures) else None,
        metric=metric,
        n_fitted=len(fitted),
        n_held_out=len(held_out),
        error_before=errors[0],
        error_after=errors[1],
        loss_before=losses[0],
        loss_after=losses[1],
    )
