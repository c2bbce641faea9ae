"""Pretraining on texts: the engine of `train`, with words to guess instead of questions to answer."""

from __future__ import annotations

from experiment.options.flags import PretrainOptions
from experiment.training.pretraining import prepare_pretraining
from experiment.training.protocol import run_seeds
from experiment.training.record import Record


def pretrain(options: PretrainOptions) -> list[Record]:
    """Train over seeds, evaluate as it goes, and say where the models are.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used, before anything is trained
            or any file of an older run is touched.
    """
    return run_seeds(*prepare_pretraining(options))
