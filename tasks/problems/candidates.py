"""What tasks of blanks and candidates share beside their problem: passages, their options, indices as answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from preprocess.base.errors import DataError
from preprocess.readers.location import as_offset
from preprocess.types import Answer, Example
from tasks.core.task import Task, TaskOptions
from tasks.problems.cloze import ClozeProblem

#: Values of `TaskOptions.assignment`.
INDEPENDENT, ONE_TO_ONE = "independent", "one_to_one"


def cloze_targets(example: Example) -> tuple[Answer, ...]:
    """Return the candidate to train on."""
    return example.answers[:1]


def by_passage(blanks: Sequence[Example]) -> dict[str, list[Example]]:
    """Return the blanks of each passage, in order."""
    passages: dict[str, list[Example]] = {}
    for blank in blanks:
        passages.setdefault(blank.group, []).append(blank)
    return passages


def configured(task: Task, options: TaskOptions) -> Task:
    """Return a task of `ClozeProblem` with the user's choice made.

    Raises:
        DataError: if it is none of those that there are, or needs a package that is not installed.
    """
    if options.assignment not in (INDEPENDENT, ONE_TO_ONE):
        raise DataError(f"--assignment {options.assignment!r}: expected {INDEPENDENT} or {ONE_TO_ONE}.")
    if options.assignment == INDEPENDENT:
        return task
    if find_spec("scipy") is None:
        raise DataError(f"--assignment {ONE_TO_ONE} needs scipy: pip install 'chinese-mrc[assignment]'")
    assert isinstance(task.problem, ClozeProblem)
    problem = replace(task.problem, one_to_one=True)
    return replace(task, version=f"{task.version}+{ONE_TO_ONE}", problem=problem)


def index_of(blank: Example, text: Any) -> int:
    """Return the index of a candidate, the first of equal ones; -1 of what is none."""
    return blank.options.index(text) if text in blank.options else -1


def text_of(blank: Example, index: Any) -> Any:
    """Return the candidate of an index, a number or its digits; "" where there is none; what is no index, as it is.

    A candidate that is given itself is no index, even where it is digits.
    """
    number = None if index in blank.options else as_offset(index)
    if number is None:
        return index
    return blank.options[number] if 0 <= number < len(blank.options) else ""
