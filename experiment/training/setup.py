"""What all seeds of a run share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiment.backend import Backend, Group
from experiment.inputs.data import Data
from experiment.inputs.model import ModelSource
from experiment.options.recipe import TrainRecipe
from experiment.training.mixture import Source
from tasks.core.prediction import Scorer
from tasks.core.task import Task


@dataclass(frozen=True)
class RunSetup:
    """What all seeds of a run share.

    Args:
        options: the recipe.
        task: the task.
        source: the model to start from.
        backend: the framework.
        group: the processes that share the work.
        device: name of the device that computes.
        n_devices: how many devices share each batch.
        sources: what is trained on; one, today.
        dev: development windows.
        test: test windows, if there is a test file.
        scorers: split -> the metric with its gold prepared; none for a test file without answers.
        record_fields: config and hashes as every Record holds them.
        pretrains: whether what comes out is a model to start from, which answers nothing: it is saved without the
            settings that answering reads.
    """

    options: TrainRecipe
    task: Task
    source: ModelSource
    backend: Backend
    group: Group
    device: str
    n_devices: int
    sources: tuple[Source, ...]
    dev: Data
    test: Data | None
    scorers: dict[str, Scorer]
    record_fields: dict[str, Any]
    pretrains: bool = False
