"""Everything about a grid's cells that can be wrong and can be told without a framework, before one is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from experiment.grid.cells import GridRun
from experiment.inputs.augmentation import additions_of
from experiment.inputs.splits import read_splits
from experiment.options.recipe import TrainRecipe
from experiment.training.matching import check_matching
from experiment.training.prepare import files_of, flat, hashes_of, resolved
from experiment.training.rundir import changes, is_run
from experiment.training.teachers import find_teachers, hashes_of_teachers, teach_all
from preprocess.base.errors import CheckpointError, DataError, UsageError

#: More mistakes than this help nobody.
_MOST_PROBLEMS = 10


@dataclass(frozen=True)
class CheckedRun:
    """A run that can be trained, as far as is known.

    Args:
        run: the run.
        recipe: what it does.
        changes: in what the run that its directory holds differs.
    """

    run: GridRun
    recipe: TrainRecipe
    changes: list[str]


def check(runs: Sequence[GridRun]) -> list[CheckedRun]:
    """Find the model, tokenizer and data of every run, and read the data.

    Raises:
        UsageError: naming each run that can't be trained, and why.
    """
    reports = _Reports()
    checked, problems = [], []
    for run in runs:
        try:
            found = resolved(run.options)
            teachers, _ = find_teachers(run.options, [each.task for each in found.tasks])
            check_matching(teachers, found.recipe, found.source)
            taught = teach_all(teachers, run.options)
            data = {each.task.name: reports.of(each.task, each.options, taught) for each in found.tasks}
            versions = ",".join(each.task.version for each in found.tasks)
            # Weights are not read for nothing.
            differing = []
            if is_run(run.directory):
                hashes = {**hashes_of(flat(data), found.source), **hashes_of_teachers(teachers)}
                differing = changes(found.recipe, hashes, versions)
        except (UsageError, DataError, CheckpointError) as error:
            problems.append((str(error), run.name))
            continue
        checked.append(CheckedRun(run, found.recipe, differing))
    if problems:
        raise UsageError(_summary(problems))
    return checked


def set_aside(checked: Sequence[CheckedRun], retrain: bool) -> list[str]:
    """Rename run directories that hold another run than they shall.

    Args:
        checked: all runs of the grid.
        retrain: whether the user wants that.

    Returns:
        a line for each that was renamed.

    Raises:
        UsageError: if there are some, and the user does not.
    """
    changed = [each for each in checked if each.changes]
    if changed and not retrain:
        said = [f"{each.run.directory} ({', '.join(each.changes)})" for each in changed[:_MOST_PROBLEMS]]
        more = f" and {len(changed) - _MOST_PROBLEMS} more" if len(changed) > _MOST_PROBLEMS else ""
        raise UsageError(
            f"held by another run than the grid now asks for: {'; '.join(said)}{more}; give --retrain_changed, which "
            "renames them, or another --output_dir"
        )
    lines = []
    for each in changed:
        directory = each.run.directory
        old = next(path for n in count(1) if not (path := Path(f"{directory}~{n}")).exists())
        directory.rename(old)
        lines.append(f"{directory}: another run ({', '.join(each.changes)}); it is {old.name} now")
    return lines


class _Reports:
    """What is said of data files; those that several runs share are read once."""

    def __init__(self) -> None:
        self._known: dict[Any, Mapping[str, Any]] = {}

    def of(self, task: Any, options: Any, taught: bool) -> Mapping[str, Any]:
        files, limits = files_of(options)
        choices = options.answer_policy, options.opencc_config, options.assignment
        additions = additions_of(options, task)
        key = (task.name, task.version, *choices, *files.values(), *limits.values(), additions, taught)
        if key not in self._known:
            splits = read_splits(task, files, limits, additions, taught=taught)
            self._known[key] = {name: split.report for name, split in splits.items()}
        return self._known[key]


def _summary(problems: Sequence[tuple[str, str]]) -> str:
    """Say each problem once, with the runs that have it."""
    runs: dict[str, list[str]] = {}
    for problem, run in problems:
        runs.setdefault(problem, []).append(run)
    said = [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {problem}"
        for problem, names in runs.items()
    ]
    more = [f"and {len(said) - _MOST_PROBLEMS} more mistakes"] if len(said) > _MOST_PROBLEMS else []
    return "; ".join([*said[:_MOST_PROBLEMS], *more])
