"""A grid's options -> its runs and their cells.

A run is a directory: a model, a task, a framework and a variant. A cell is a seed of it, which one process trains.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import get_args

from experiment.grid.models import GridModel, models_of
from experiment.options.arguments import CommandLine, understand
from experiment.options.changed import OF_THE_RUN
from experiment.options.configfile import read_sections
from experiment.options.devices import Framework
from experiment.options.fields import Given, options_of
from experiment.options.flags import GridOptions, TrainOptions
from experiment.options.joint import BY_TASK
from experiment.training.record import seed_directory
from preprocess.base.errors import UsageError
from preprocess.base.files import write_json
from preprocess.base.jsonfile import read_json_object
from preprocess.base.names import did_you_mean
from tasks.core.discovery import get_task, task_names

#: The section of --settings for every cell.
_ALL = "all"
#: Beside the run directories: what the cells are, and what their processes have said.
CELLS_FILE, LOGS = "cells.json", "logs"


@dataclass(frozen=True)
class Cell:
    """One seed of one run: what a process trains.

    Args:
        grid: the grid's directory.
        run: name of the run, and of its directory in that of the grid.
        seed: of weights, dropout and data order.
        arguments: of the command line that trains it.
    """

    grid: Path
    run: str
    seed: int
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.run} seed {self.seed}"

    @property
    def directory(self) -> Path:
        """Of its Record."""
        return seed_directory(self.grid / self.run, self.seed)

    @property
    def log(self) -> Path:
        """Gets all that its processes say."""
        return self.grid / LOGS / f"{self.run}.seed_{self.seed}.log"


@dataclass(frozen=True)
class GridRun:
    """A run of a grid.

    Args:
        name: of its directory.
        model: what its model is called.
        given: options of train, later ones before earlier ones.
        options: what they mean.
    """

    name: str
    model: str
    given: tuple[Given, ...]
    options: TrainOptions

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.options.output_dir

    def cells(self) -> Iterator[Cell]:
        """Yield its cells, in the order of the seeds."""
        given = [setting for setting in self.given if setting.name != "seeds"]
        for seed in self.options.seeds:
            flags = [*map(_typed, given), ["--seeds", str(seed)]]
            arguments = ("train", *(text for flag in flags for text in flag))
            yield Cell(self.directory.parent, self.name, seed, arguments)


def runs_of(options: GridOptions) -> list[GridRun]:
    """Return the runs of a grid: for each model and task those of all frameworks and variants.

    Raises:
        UsageError: naming all that is missing, unknown, or stands for two things.
    """
    by_task = {option.name for option in options_of(TrainOptions) if option.by_task}
    sections = [section for text in options.settings for section in read_sections(text, "settings", by_task)]
    _check_settings(sections)
    models = models_of(options.models, options.config_names)
    for task in (name for text in options.tasks for name in _tasks(text)):
        get_task(task)
    if not models or not options.tasks:
        raise UsageError("a grid needs --models (or --config_names) and --tasks, best in a --config file")
    _check_labels(options, models, [name for name, _ in sections])
    left_out = [_parts(text) for text in options.leave_out]
    runs, problems = [], []
    for model, task, framework, variant in product(
        models, options.tasks, options.frameworks, options.variants or ("",)
    ):
        label = _label(task)
        labels = frozenset({_ALL, model.name, model.given, label, framework, variant} - {""})
        if any(labels >= parts for parts in left_out):
            continue
        name = ".".join(part for part in (model.name, label, framework, variant) if part)
        settings = [given for section, settings in sections if labels >= _parts(section) for given in settings]
        settings = [*_files_of_tasks(task, labels - {label}, sections), *settings]
        axes = {
            "task": ",".join(_tasks(task)),
            model.option: model.path,
            "framework": framework,
            "output_dir": str(options.output_dir / name),
        }
        own = [Given(option, (text,), f"--{option}") for option, text in axes.items()]
        seeds = Given("seeds", tuple(map(str, options.seeds)), "--seeds", is_list=True)
        try:
            train_options = understand(CommandLine(given=[*settings, *own, seeds]), TrainOptions)
        except UsageError as error:
            problems.append(str(error))
            continue
        runs.append(GridRun(name, model.name, (*settings, *own, seeds), train_options))
    if problems:
        raise UsageError("; ".join(dict.fromkeys(problems)))
    if not runs:
        raise UsageError("--leave_out leaves no cell; take something out of it")
    return runs


def _tasks(text: str) -> list[str]:
    """Return the tasks of an entry of --tasks: one, or several with commas that are learned together."""
    return [name.strip() for name in text.split(",")]


def _label(text: str) -> str:
    """Return what a cell of these tasks is called: a comma would stand between labels."""
    return "+".join(_tasks(text))


def _files_of_tasks(
    text: str, labels: frozenset[str], sections: Sequence[tuple[str, list[Given]]]
) -> Iterator[Given]:
    """Yield the files in the sections of single tasks, for the cell of several; the rest is not for that."""
    tasks = _tasks(text)
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for section, settings in sections:
        mine = [task for task in tasks if task in _parts(section) <= labels | {task}]
        for given in settings if len(tasks) > 1 else ():
            flag = given.name.replace("-", "_")
            if flag in BY_TASK and given.texts:
                found.setdefault(flag, {}).update(dict.fromkeys(mine, given.texts))
    for flag, files in found.items():
        if files:
            texts = tuple(f"{task}={file}" for task, own in files.items() for file in own)
            yield Given(flag, texts, f"settings: {flag}", is_list=True)


def cells_of(runs: Sequence[GridRun]) -> list[Cell]:
    """Return the cells in the order in which they are to be trained: the first seed of every run goes first."""
    by_run = [list(run.cells()) for run in runs]
    return [cell for of_one_seed in zip(*by_run, strict=True) for cell in of_one_seed]


def write_cells(grid: Path, cells: Sequence[Cell]) -> None:
    """Note in the grid's directory which cells it has, for those who look on from elsewhere."""
    entries = [{"run": cell.run, "seed": cell.seed, "arguments": cell.arguments} for cell in cells]
    write_json(grid / CELLS_FILE, {"cells": entries})


def read_cells(grid: Path) -> list[Cell]:
    """Return the cells that a directory's grid has.

    Raises:
        UsageError: if no grid was started there.
    """
    if not (grid / CELLS_FILE).is_file():
        raise UsageError(f"--output_dir {grid}: no grid was started there (no {CELLS_FILE} in it)")
    content = read_json_object(grid / CELLS_FILE, UsageError, "start the grid again")
    try:
        return [Cell(grid, cell["run"], cell["seed"], tuple(cell["arguments"])) for cell in content["cells"]]
    except (KeyError, TypeError):
        raise UsageError(f"{grid / CELLS_FILE}: not the cells of a grid; start the grid again") from None


def _check_labels(options: GridOptions, models: Sequence[GridModel], sections: Sequence[str]) -> None:
    """Refuse labels that stand for two things, and sections that stand for nothing."""
    of_models = [name for model in models for name in {model.name, model.given}]
    labels = [_ALL, *of_models, *map(_label, options.tasks), *options.frameworks, *options.variants]
    # A file may say more than a command that takes a part of its tasks needs.
    known = {*labels, *task_names(), *get_args(Framework)}
    if twice := sorted(label for label, n in Counter(labels).items() if n > 1):
        raise UsageError(
            f"{', '.join(map(repr, twice))} is the name of two things in this grid; call a model NAME=PATH, or a "
            "variant differently"
        )
    if bad := [variant for variant in options.variants if not re.fullmatch(r"[\w-]+", variant)]:
        raise UsageError(f"--variants {' '.join(bad)}: letters, digits, '-' and '_' make a name")
    problems = [
        f"{flag} {section!r}: {part!r} is no model, task, framework or variant of this grid"
        f"{did_you_mean(part, list(known))}"
        for flag, texts in (("settings", sections), ("leave_out", options.leave_out))
        for section in texts
        for part in sorted(_parts(section) - known)
    ]
    if problems:
        raise UsageError("; ".join(problems))


def _check_settings(sections: Sequence[tuple[str, list[Given]]]) -> None:
    """Refuse options of train that the grid itself gives."""
    problems = [
        f"{given.where}: the grid gives it; see --models, --config_names, --tasks, --frameworks, --seeds"
        for _, settings in sections
        for given in settings
        if given.name.replace("-", "_") in OF_THE_RUN
    ]
    if problems:
        raise UsageError("; ".join(problems))


def _parts(section: str) -> frozenset[str]:
    return frozenset(part.strip() for part in section.split(","))


def _typed(given: Given) -> list[str]:
    """Return an option as it would be typed."""
    if given.is_list:
        return [f"--{given.name}", *given.texts]
    return [f"--{given.name}={'None' if given.is_null else given.texts[0]}"]
