"""Data files -> examples, what they are trained on, and their windows."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiment.options.data import Files
from experiment.options.recipe import Recipe
from preprocess.base.errors import DataError
from preprocess.base.hashing import hash_of_files, sha256
from preprocess.batch import collate
from preprocess.cache import cached_encode
from preprocess.readers.report import DataReport, merged, shown
from preprocess.template import Template
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import Batch, Example, FeatureSet
from tasks.core.prediction import Scorer
from tasks.core.problem import Drawing
from tasks.core.task import Task

#: What is drawn for evaluation, each time the same, is a function of these: no training gets to such an epoch.
_EVALUATION = (0x6576616C, 0x6576616C)


def read_examples(task: Task, files: Files, limit: int | None = None) -> tuple[list[Example], DataReport]:
    """Read a data file of the task, or several as one.

    A question whose id stands in a file before its own is another one, see `Apart`.

    Args:
        task: whose layout the files have.
        files: one, or several in their order.
        limit: the most questions that are kept; None for all.

    Returns:
        The questions, and the report on all files together, which holds their hash.

    Raises:
        DataError: naming all files that can't be read.
    """
    if isinstance(files, Path):
        examples, report = task.read(files)
        if not report.sha256:  # of a task whose own reader does not hash what it reads
            report.sha256 = sha256(files)
        return examples[:limit], report
    examples, reports, problems, apart = [], [], [], Apart()
    for number, path in enumerate(files, start=1):
        try:
            read, report = read_examples(task, path)
        except DataError as error:
            problems.append(str(error))
            continue
        examples += apart.named(read, number)
        reports.append(report)
    if problems:
        raise DataError("; ".join(dict.fromkeys(problems)))
    return examples[:limit], merged(reports, hash_of_files([report.sha256 for report in reports]))


class Apart:
    """Tells the questions of several files apart, and their articles: of rows, ids are numbers of lines."""

    def __init__(self, examples: Sequence[Example] = ()) -> None:
        """Begin with the examples of the first file, or none."""
        self._ids, self._groups = {one.id for one in examples}, {one.group for one in examples}

    def named(self, examples: Sequence[Example], number: int) -> list[Example]:
        """Return the examples of the next file; behind an id or group that is taken, "#file-2" (by its number)."""

        def free(name: str, taken: Set[str]) -> str:
            return f"{name}#file-{number}" if name and name in taken else name

        named = [replace(one, id=free(one.id, self._ids), group=free(one.group, self._groups)) for one in examples]
        self._ids.update(one.id for one in named)
        self._groups.update(one.group for one in named)
        return named


@dataclass(frozen=True)
class Data:
    """Examples and their windows.

    Args:
        examples: the questions.
        features: their windows.
        drawing: draws what a model is to guess of them, if it is to guess.
    """

    examples: list[Example]
    features: FeatureSet
    drawing: Drawing | None = None

    def batch(self, windows: NDArray[np.integer], *words: int) -> Batch:
        """Return some windows as a model is given them.

        Args:
            windows: integer [B], their indices.
            *words: what is drawn is a function of these numbers and the window; none for evaluation.
        """
        batch = collate(self.features, windows)
        return batch if self.drawing is None else self.drawing.drawn(batch, words or _EVALUATION)


def first_targets(task: Task, examples: Sequence[Example]) -> list[Any]:
    """Return each example's first target to train on, or None."""
    return [next(iter(_targets(task, example)), None) for example in examples]


def _targets(task: Task, example: Example) -> Sequence[Any]:
    # To a task with unanswerable questions, no answers of an unlabelled question would be "there is no answer".
    return task.targets(example) if example.labelled else ()


def scorer_of(task: Task, examples: Sequence[Example], report: DataReport) -> Scorer:
    """Prepare the gold of a file's questions for the task's metric.

    Raises:
        DataError: naming the file, if a question has no gold to be scored against.
    """
    unlabelled = _unlabelled(examples, report)
    if unlabelled:
        raise DataError(f"{report.file}: {unlabelled}; add them, or leave these questions out: they can't be scored")
    try:
        return task.scorer(examples)
    except DataError as error:
        raise DataError(f"{report.file}: {error}") from None


def _unlabelled(examples: Sequence[Example], report: DataReport) -> str:
    """Say how many questions have no "answers", and which key may be meant to be them; "" if all are labelled."""
    ids = [example.id for example in examples if not example.labelled]
    if not ids:
        return ""
    problem = next((problem for problem in report.problems if problem.kind == "unlabelled"), None)
    first = repr(shown(ids[0])) if problem is None else f"{shown(problem.id)!r}: {shown(problem.found)}"
    return f'{len(ids)} of {len(examples)} questions have no "answers" ({first})'


def encode(
    task: Task,
    examples: list[Example],
    targets: Sequence[Any],
    tokenizer: Tokenizer,
    recipe: Recipe,
    cache_dir: Path | None,
    *,
    template: Template,
) -> Data:
    """Encode examples for a model that reads windows of a template, under a recipe, through the cache."""
    cache = cache_dir.expanduser() if cache_dir is not None else None
    params: dict[str, Any] = {**recipe.windows, "template": template}
    if task.transform is not None:
        params["transform"] = task.transform
    problem = task.problem
    features = cached_encode(cache, problem, examples, targets, tokenizer, **params)
    return Data(examples, features, problem if isinstance(problem, Drawing) else None)


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


def trainable(task: Task, examples: Sequence[Example], report: DataReport, *, taught: bool = False) -> Trainable:
    """Pair examples with their targets.

    Args:
        task: says what an example is trained on.
        examples: of one file.
        report: on the file.
        taught: whether there are teachers, who have targets for all; that of an example without one of its own is
            then None.

    Raises:
        DataError: naming the file, if no example has a target.
    """
    nothing = (None,) if taught else ()
    pairs = [(example, target) for example in examples for target in _targets(task, example) or nothing]
    if not pairs:
        why = _unlabelled(examples, report) or f"no answer to its {len(examples)} questions stands in its context"
        raise DataError(f"{report.file}: {why}; give a training file with answers")
    kept = {example.id for example, target in pairs if target is not None}
    without = [example.id for example in examples if example.id not in kept]
    return Trainable([example for example, _ in pairs], [target for _, target in pairs], without)
