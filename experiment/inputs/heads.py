"""Which head a model answers a task with, where its family has one of its own for that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pretrained_configs.checkpoint import Checkpoint
from pretrained_configs.config import ModelConfig
from tasks.core.task import Task


def task_for(task: Task, config: ModelConfig, checkpoint: Checkpoint | None) -> Task:
    """Return a task with the problem that a model learns and answers.

    That is the task's own, unless the family's authors have another head for it. A model that was fine-tuned with the
    task's own all the same keeps it.

    Args:
        task: as configured.
        config: the model's architecture.
        checkpoint: its weights; None for a model from scratch.

    Raises:
        CheckpointError: if the weights' files have changed since they were found.
    """
    if task.conditioned is None or not config.family.conditions_ends:
        return task
    problem = task.conditioned(config.start_n_top, config.end_n_top)
    held = checkpoint.heads().keys() if checkpoint is not None else set()
    if task.problem.head.rows.keys() <= held and not problem.head.rows.keys() & held:
        return task
    return replace(task, problem=problem)


def exported_task(task: Task, config: ModelConfig, outputs: Collection[str]) -> Task:
    """Return a task with the problem that an exported model answers.

    Args:
        task: as configured.
        config: the model's architecture.
        outputs: what the graph returns, by the names of the head's.
    """
    fitted = task_for(task, config, None)
    return fitted if {output.name for output in fitted.problem.head.outputs} <= set(outputs) else task
