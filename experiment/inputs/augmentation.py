"""What training is to be augmented by: options -> a value, or why a task can't have it."""

from __future__ import annotations

from experiment.options.data import AugmentOptions
from preprocess.base.errors import UsageError
from tasks.core.augment import Augmentation, takes_no_answer, takes_spans
from tasks.core.task import Task


def augmentation_of(options: AugmentOptions, task: Task) -> Augmentation | None:
    """Return what is to be added to the training questions of a task; None for nothing.

    Raises:
        UsageError: if the task does not learn from what would be made.
    """
    for name in ("augment_delete_answer", "augment_other_context"):
        if getattr(options, name) > 0 and not takes_no_answer(task):
            raise UsageError(f"--{name}: task {task.name} has no unanswerable questions to learn from; leave it out")
    if options.augment_weak_spans > 0 and not takes_spans(task):
        raise UsageError(f"--augment_weak_spans: the answers of task {task.name} need no place; leave it out")
    wanted = Augmentation(
        delete_answer=options.augment_delete_answer,
        other_context=options.augment_other_context,
        weak_spans=options.augment_weak_spans,
        seed=options.augment_seed,
    )
    return wanted if wanted.makes_negatives or wanted.weak_spans > 0 else None
