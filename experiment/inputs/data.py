"""Data files -> examples, what they are trained on, and their windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.options.flags import FeatureOptions
from preprocess.base.errors import DataError
from preprocess.cache import cached_encode
from preprocess.readers.report import DataReport
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import Example, FeatureSet
from tasks.core.task import Task


def read_examples(task: Task, path: Path, limit: int | None = None) -> tuple[list[Example], DataReport]:
    """Read a data file of the task, at most `limit` questions of it."""
    examples, report = task.read(path)
    return examples[:limit], report


@dataclass(frozen=True)
class Data:
    """Examples and their windows.

    Args:
        examples: the questions.
        features: their windows.
    """

    examples: list[Example]
    features: FeatureSet


def first_targets(task: Task, examples: Sequence[Example]) -> list[Any]:
    """Return each example's first target to train on, or None."""
    return [next(iter(task.targets(example)), None) for example in examples]


def encode(
    task: Task,
    examples: list[Example],
    targets: Sequence[Any],
    tokenizer: Tokenizer,
    options: FeatureOptions,
) -> Data:
    """Encode examples under the resolved options, through the cache."""
    cache = options.feature_cache_dir.expanduser() if options.feature_cache_dir else None
    params: dict[str, Any] = {
        "max_seq_length": options.max_seq_length,
        "doc_stride": options.doc_stride,
        "doc_overlap": options.doc_overlap,
        "max_query_length": options.max_query_length,
        "transform": task.transform,
    }
    params = {name: value for name, value in params.items() if value is not None}
    return Data(examples, cached_encode(cache, task.problem, examples, targets, tokenizer, **params))


@dataclass(frozen=True)
class Trainable:
    """Examples with what they are trained on; an example with several targets stands there several times.

    Args:
        examples: the examples.
        targets: one of each, as the problem takes it.
        without_target: ids of the questions that nothing can be trained on.
    """

    examples: list[Example]
    targets: list[Any]
    without_target: list[str]


def trainable(task: Task, examples: Sequence[Example]) -> Trainable:
    """Pair examples with their targets.

    Raises:
        DataError: if no example has one.
    """
    pairs = [(example, target) for example in examples for target in task.targets(example)]
    if not pairs:
        raise DataError("no question has an answer that can be trained on")
    kept = {example.id for example, _ in pairs}
    without = [example.id for example in examples if example.id not in kept]
    return Trainable([example for example, _ in pairs], [target for _, target in pairs], without)
