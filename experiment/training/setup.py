"""What all seeds of a run share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from experiment.backend import Backend, Group
from experiment.inputs.data import Data
from experiment.inputs.model import ModelSource
from experiment.options.recipe import TrainRecipe
from experiment.training.mixture import Source
from tasks.core.joint import SharedHead
from tasks.core.prediction import Scorer
from tasks.core.task import Task

#: Metric of several tasks: the mean of their own, each the mean of those that select its checkpoint.
MEAN = "mean"


@dataclass(frozen=True, eq=False)
class Part:
    """One task of a run: what is learned of it, and what it is measured by.

    Args:
        task: the task.
        recipe: its windows and its search for answers.
        source: what is trained on.
        dev: development windows.
        test: test windows, if there is a test file.
        scorers: split -> the metric with its gold prepared; none for a test file without answers.
        hashes: of its files and the model, as its Record holds them.
    """

    task: Task
    recipe: TrainRecipe
    source: Source
    dev: Data
    test: Data | None
    scorers: dict[str, Scorer]
    hashes: dict[str, str]


@dataclass(frozen=True)
class Rule:
    """A rule that selects a checkpoint: the largest sum of some metrics on dev wins.

    Args:
        task: whose own it is; "" for that of the whole run.
        metrics: what the values of an evaluation call them.
        parts: tasks that its checkpoint answers in the end.
    """

    task: str
    metrics: tuple[str, ...]
    parts: tuple[Part, ...]

    def merit(self, values: Mapping[str, float]) -> float:
        """Return what an evaluation is worth."""
        return sum(values[name] for name in self.metrics)


@dataclass(frozen=True)
class RunSetup:
    """What all seeds of a run share.

    Args:
        options: the recipe.
        parts: the tasks, in the order in which they were typed.
        source: the model to start from.
        head: of the model.
        backend: the framework.
        group: the processes that share the work.
        device: name of the device that computes.
        n_devices: how many devices share each batch.
        record_fields: config and hashes as every Record holds them.
        warnings: what a reader of the scores should know of the data.
        pretrains: whether what comes out is a model to start from, which answers nothing: it is saved without the
            settings that answering reads.
    """

    options: TrainRecipe
    parts: tuple[Part, ...]
    source: ModelSource
    head: SharedHead
    backend: Backend
    group: Group
    device: str
    n_devices: int
    record_fields: dict[str, Any]
    warnings: tuple[str, ...] = ()
    pretrains: bool = False

    @property
    def is_joint(self) -> bool:
        """Whether there are several tasks."""
        return len(self.parts) > 1

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return tuple(part.task.name for part in self.parts)

    @property
    def sources(self) -> tuple[Source, ...]:
        """What is trained on."""
        return tuple(part.source for part in self.parts)

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that select checkpoints: that of the run, and of several tasks each one's own."""
        if not self.is_joint:
            return (Rule("", self.parts[0].task.selection, self.parts),)
        own = {part: tuple(metric_of(part.task, name) for name in part.task.selection) for part in self.parts}
        return (Rule("", (MEAN,), self.parts), *(Rule(p.task.name, metrics, (p,)) for p, metrics in own.items()))

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics that a line says: those that select a checkpoint."""
        return tuple(name for rule in self.rules for name in rule.metrics)

    def values(self, by_task: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Return the metrics of a split under the names that they have in this run.

        Args:
            by_task: task -> metric -> value. The mean is there if all tasks are.
        """
        if not self.is_joint:
            return dict(by_task[self.tasks[0]])
        found = [(part.task, by_task[part.task.name]) for part in self.parts if part.task.name in by_task]
        named = {metric_of(task, name): value for task, values in found for name, value in values.items()}
        if len(found) < len(self.parts):
            return named
        return {MEAN: fmean(fmean(values[name] for name in task.selection) for task, values in found), **named}


def metric_of(task: Task, name: str) -> str:
    """Return what a task's metric is called beside those of other tasks."""
    return f"{task.name}.{name}"


def own_values(task: Task, values: Mapping[str, float]) -> dict[str, float]:
    """Return a task's metrics of those of several, by its own names for them."""
    prefix = metric_of(task, "")
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
