"""A model and windows -> its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from experiment.backend import Backend
from experiment.inputs.data import Data
from experiment.io.terminal import Bars
from experiment.options.flags import FeatureOptions
from experiment.options.recipe import precision_of
from preprocess.batch import collate, eval_batches
from preprocess.types import Batch, Outputs


def outputs_of(
    backend: Backend, model: Any, data: Data, options: FeatureOptions, bars: Bars, description: str
) -> Iterator[Outputs]:
    """Run the model over all windows, with a progress bar."""
    rows = eval_batches(data.features, options.per_device_eval_batch_size)
    batches: Iterator[Batch] = (collate(data.features, each) for each in bars.tracked(description, rows))
    return backend.predict(model, batches, precision=precision_of(options))
