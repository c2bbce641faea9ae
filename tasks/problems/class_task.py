"""A task whose files are rows of a text, or a pair of texts, and a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from preprocess.readers.parts import RowParts
from preprocess.readers.rows import CONTEXT, QUESTION, Columns, Labels, read_classified
from preprocess.types import Answer, Example
from tasks.core.prediction import Scorer
from tasks.core.task import Task
from tasks.metrics.classes import AccuracyScorer
from tasks.metrics.kinds import kind_report
from tasks.problems.classify import ClassProblem


def class_task(*, columns: Columns, labels: Labels, group: str = "", **fields: Any) -> Task:
    """Make a task that is scored by accuracy.

    Args:
        columns: of its files; with a question in them, pairs are classified.
        labels: its classes.
        group: column whose equal texts belong together, see `read_classified`.
        **fields: others of `Task`, or instead of those made here.
    """
    pair = QUESTION in columns.order
    made: dict[str, Any] = {
        "read": partial(read_classified, columns=columns, labels=labels, group=group),
        "problem": ClassProblem(labels.names, pair),
        "targets": class_targets,
        "scorer": partial(_scorer, labels),
        "selection": ("accuracy",),
        "report": partial(_report, labels),
        "inputs": (QUESTION, CONTEXT) if pair else (CONTEXT,),
        "parts": RowParts(columns, (group,) if group else (CONTEXT,)),
        "pipeline": "text-classification",
    }
    return Task(**{**made, **fields})


def class_targets(example: Example) -> tuple[Answer, ...]:
    """Return the class to train on; nothing of an unlabelled example."""
    return example.answers[:1]


def class_of(example: Example) -> str:
    """Return the class that an example is annotated with; "" of an unlabelled one."""
    return example.answers[0].text if example.answers else ""


def _scorer(labels: Labels, examples: Sequence[Example]) -> Scorer:
    return AccuracyScorer({example.id: class_of(example) for example in examples}, labels.find)


def _report(labels: Labels, examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, Any]:
    gold = {example.id: class_of(example) for example in examples}
    return kind_report(gold, {id: labels.find(text) for id, text in predictions.items()}, labels.names)
