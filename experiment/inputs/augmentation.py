"""What is trained on beside the questions of a training file: options -> a value, or why a task can't have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from experiment.inputs.data import Apart, read_examples
from experiment.options.data import AugmentOptions
from preprocess.base.errors import UsageError
from preprocess.types import Example
from tasks.core.augment import Augmentation, augmented, drawn, takes_no_answer, takes_spans
from tasks.core.task import Task


class Added(NamedTuple):
    """A training file with what was added to it.

    Args:
        examples: all of them, the file's own first.
        report: on what was added, JSON-able.
        lines: the same for printing.
    """

    examples: list[Example]
    report: dict[str, Any]
    lines: list[str]


@dataclass(frozen=True)
class Additions:
    """What is added to the questions of a training file.

    Args:
        files: further files of the task, and the share of each that is drawn.
        made: what is made of the questions of all files.
    """

    files: tuple[tuple[Path, float], ...]
    made: Augmentation

    def to(self, task: Task, examples: Sequence[Example]) -> Added:
        """Add them to the questions of a file.

        Raises:
            DataError: naming a further file that can't be used.
        """
        kept, further, lines = list(examples), [], []
        apart = Apart(examples)
        for number, (path, rate) in enumerate(self.files, start=2):
            read, report = read_examples(task, path)
            found = drawn(apart.named(read, number), rate, self.made.seed, number)
            kept += found
            further.append({**report.to_json(), "rate": rate, "drawn": len(found)})
            lines += [
                *report.lines(),
                f"  drawn of these, at a rate of {rate}: {len(found)} of {len(read)} questions",
            ]
        more = augmented(task, kept, self.made)
        report_of_all = {**more.report, **({"further_files": further} if further else {})}
        return Added(more.examples, report_of_all, [*lines, *more.lines()])


def additions_of(options: AugmentOptions, task: Task) -> Additions | None:
    """Return what is to be added to the training questions of a task; None for nothing.

    Raises:
        UsageError: if the task does not learn from what would be made, or files and rates are not as many.
    """
    for name in ("augment_delete_answer", "augment_other_context"):
        if getattr(options, name) > 0 and not takes_no_answer(task):
            raise UsageError(f"--{name}: task {task.name} has no unanswerable questions to learn from; leave it out")
    if options.augment_weak_spans > 0 and not takes_spans(task):
        raise UsageError(f"--augment_weak_spans: the answers of task {task.name} need no place; leave it out")
    files, rates = options.more_train_files, options.more_train_rates
    if rates and len(rates) != len(files):
        raise UsageError(f"--more_train_rates: {len(rates)} for {len(files)} --more_train_files; give one for each")
    made = Augmentation(
        delete_answer=options.augment_delete_answer,
        other_context=options.augment_other_context,
        weak_spans=options.augment_weak_spans,
        seed=options.augment_seed,
    )
    added = Additions(tuple(zip(files, rates or (1.0,) * len(files), strict=True)), made)
    return added if files or made.makes_negatives or made.weak_spans > 0 else None
