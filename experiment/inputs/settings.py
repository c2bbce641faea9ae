"""What a checkpoint was fine-tuned with and must be used with: a small JSON file beside its weights.

`predict`, `parity`, `export` and `stats` all read it through `recall`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from experiment.options.data import TaskChoice
from experiment.options.fields import options_of
from experiment.options.model import TokenizerOptions
from experiment.options.recipe import TrainRecipe, precision_of, task_of
from experiment.options.windows import WindowOptions
from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import write_json
from preprocess.base.jsonfile import describe, read_json_object
from preprocess.template import Template
from preprocess.tokenizers.base import Tokenizer
from tasks.core.confidence import Temperature, temperature_from
from tasks.core.discovery import get_task
from tasks.core.task import Task, TaskOptions

FILE_NAME = "mrc_settings.json"
_WINDOWS = ("max_seq_length", "doc_stride", "doc_overlap", "max_query_length")
_TASK = tuple(option.name for option in fields(TaskOptions))
#: Two ways to say one thing: who gives one of them does not want the other.
_INSTEAD = {"doc_stride": "doc_overlap", "doc_overlap": "doc_stride"}

Options = TypeVar("Options", bound=Any)


@dataclass(frozen=True)
class Settings:
    """What a checkpoint was fine-tuned with.

    Args:
        task: name of the task.
        version: of the task; it names the task options that move a score.
        options: windows and decoding, by the names of their flags.
        task_options: the user's choices about the task, None where the task's own; None in older files.
        tokenizer: its options, and their hash together with the vocabulary's as "fingerprint"; empty in older files.
        template: how its windows are laid out, see `preprocess.template`; empty in older files.
        precision: "fp32", "bf16" or "fp16"; for information. "" in older files.
        calibration: what `calibrate` has found, above all the "temperature"; empty if it was not run.
        joint: all tasks that it was fine-tuned for together; none where it was one. What it shall answer is then
            this task, whose head is called after it; or, where none was asked for, all of them with commas.
    """

    task: str
    version: str
    options: Mapping[str, Any]
    task_options: Mapping[str, Any] | None = None
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    template: Mapping[str, Any] = field(default_factory=dict)
    precision: str = ""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    joint: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return them as a file holds them."""
        values = asdict(self)
        del values["joint"]
        return values


def write_settings(
    directory: Path,
    task: Task,
    recipe: TrainRecipe,
    decode: Mapping[str, Any],
    tokenizer: Tokenizer,
    template: Template,
) -> None:
    """Write into a checkpoint's directory what it has been fine-tuned with.

    Args:
        directory: must exist; an older file is replaced atomically.
        task: as configured.
        recipe: of the training.
        decode: fields of `DecodeOptions`, as given or tuned.
        tokenizer: that made the windows' pieces.
        template: that the windows are laid out by.
    """
    write_json(directory / FILE_NAME, settings_of(task, recipe, decode, tokenizer, template).as_json())


def settings_of(
    task: Task, recipe: TrainRecipe, decode: Mapping[str, Any], tokenizer: Tokenizer, template: Template
) -> Settings:
    """Return what a checkpoint is fine-tuned with; the arguments are those of `write_settings`."""
    return Settings(
        task=task.name,
        version=task.version,
        options={name: recipe.windows.get(name) for name in _WINDOWS} | {**decode},
        task_options={name: recipe.config[name] for name in _TASK},
        tokenizer={**tokenizer.options, "fingerprint": tokenizer.fingerprint},
        template=template.as_json(),
        precision=recipe.precision,
    )


def write_several(directory: Path, settings: Sequence[Settings]) -> None:
    """Write the settings of a checkpoint that has been fine-tuned for several tasks together."""
    write_json(directory / FILE_NAME, {"tasks": {each.task: each.as_json() for each in settings}})


def write_calibration(directory: Path, task: Task, calibration: Mapping[str, Any]) -> None:
    """Keep in the settings of a checkpoint, which must be there, what was found for a task; an older finding goes."""
    path = directory / FILE_NAME
    values = read_json_object(path, UsageError, "delete it")
    values.get("tasks", {}).get(task.name, values)["calibration"] = dict(calibration)
    write_json(path, values)


def temperature_of(settings: Settings | None, task: Task) -> Temperature:
    """Return what a checkpoint was calibrated to for a task; 1 if it was not."""
    if settings is None or settings.task != task.name:
        return 1.0
    kept = settings.calibration
    return temperature_from(kept.get("temperature", 1.0), kept.get("null_temperature"))


def read_settings(directory: Path, task: str | None = None) -> Settings | None:
    """Read the settings in the directory of a checkpoint; None where there are none, as beside published weights.

    Args:
        directory: of the checkpoint.
        task: of those that it was fine-tuned for together, the one that is asked for.

    Raises:
        UsageError: if the file is damaged.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        return None
    values = read_json_object(path, UsageError, "delete it")
    try:
        if "tasks" not in values:
            return _understood(values)
        joint = tuple(values["tasks"])
        of_each = {name: replace(_understood(values["tasks"][name]), joint=joint) for name in joint}
        if task in of_each:
            return of_each[task]
        first = next(iter(of_each.values()))
        return replace(first, task=",".join(of_each), version="", options={}, task_options={})
    except (ValueError, TypeError, AttributeError, AssertionError, StopIteration) as error:
        raise UsageError(f"{path}: not a settings file of this toolkit ({error}); delete it") from None


def _understood(values: Mapping[str, Any]) -> Settings:
    known = {option.name for option in fields(Settings)} - {"joint"}
    settings = Settings(**{name: value for name, value in values.items() if name in known})
    _check(settings)
    Template(**settings.template)
    return settings


def _check(settings: Settings) -> None:
    """Raise ValueError (TypeError, where values by name were expected) unless flags could have given these values."""
    groups = (TaskChoice, WindowOptions, TokenizerOptions)
    known = {option.name: option for group in groups for option in options_of(group)}
    values = {**settings.options, **(settings.task_options or {}), **settings.tokenizer, "task": settings.task}
    for name, value in values.items():
        option = known.get(name)
        if option is None or value is None:
            continue
        try:
            if option.read(str(value)) != value:
                raise ValueError(f"found {describe(value)}")
        except ValueError as error:
            raise ValueError(f"{name} {value}: {error}") from None
        if problems := list(option.problems(value)):
            raise ValueError(f"{name} {'; '.join(problems)}")
    temperature, null = (settings.calibration.get(name) for name in ("temperature", "null_temperature"))
    for value in (1.0 if temperature is None else temperature, 1.0 if null is None else null):
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"a temperature above 0 was expected, found {describe(value)}")
    for text in (settings.task, settings.version, settings.precision):
        if not isinstance(text, str):
            raise ValueError(f"a text was expected, found {describe(text)}")


def recall(settings: Settings | None, options: Options, *, but: Collection[str] = ()) -> tuple[Options, list[str]]:
    """Fill in what was left out by what the checkpoint was fine-tuned with; flags that were given stay.

    Args:
        settings: of the checkpoint; None leaves the options as they are.
        options: of any command, None where left out. Those that the command does not have are passed over.
        but: names of options that are not to be filled in.

    Returns:
        the options, and a line for everything in which they differ from the training.

    Raises:
        UsageError, DataError: if the task does not exist, or has not the options that were given.
    """
    if settings is None:
        return options, []
    names = {option.name for option in fields(options)} - {*but}
    lines: list[str] = []
    learned = {name: value for name, value in settings.options.items() if name in names}
    given = {name: getattr(options, name) for name in learned}
    for name, value in given.items():
        if value is not None and value != learned[name] and (place := _place(name, learned)) is not None:
            lines.append(f"--{name} {value} overrules the checkpoint's {place}")
    missing = {
        name: learned[name]
        for name, value in given.items()
        if value is None and given.get(_INSTEAD.get(name, "")) is None
    }
    if "do_lower_case" in names and options.tokenizer_name is None and options.do_lower_case is None:
        missing["do_lower_case"] = settings.tokenizer.get("do_lower_case")
    options = replace(options, **missing)
    if {"task", *_TASK} <= names:  # `export` has a task, but no choices about it
        options, about_task = _recall_task(settings, options)
        lines += about_task
    if "bf16" in names:
        lines += _about_precision(settings.precision, precision_of(options))
    return options, lines


def _place(name: str, learned: Mapping[str, Any]) -> str | None:
    """Say what a checkpoint has in place of an option; None if it does not say."""
    other = _INSTEAD.get(name, "")
    if learned[name] is None and learned.get(other) is not None:
        return f"{other} {learned[other]}"
    return None if learned[name] is None else str(learned[name])


def _recall_task(settings: Settings, options: Any) -> tuple[Any, list[str]]:
    """Fill in the options of the task; returns a line if it is another task, or another version of it."""
    task = task_of(options)
    learned = {name: value for name, value in (settings.task_options or {}).items() if name in task.options}
    given = {name: getattr(options, name) for name in learned}
    options = replace(options, **{name: learned[name] for name, value in given.items() if value is None})
    task = task_of(options)
    if task.name != settings.task:
        return options, [
            f"the checkpoint was fine-tuned for task {settings.task}; for {task.name} its windows and decoding are "
            "those that it was fine-tuned with"
        ]
    lines = []
    if settings.task_options is None:
        lines.append(
            f"{FILE_NAME} of the checkpoint is of an older version, without the options of task and tokenizer: those "
            "given here are used, or the defaults"
        )
    if task.version != settings.version:
        overruled = [
            f"--{name} {value} overrules the checkpoint's {learned[name] or 'default of the task'}"
            for name, value in given.items()
            if value not in (None, learned[name])
        ]
        flags = ", ".join(f"--{name}" for name in sorted(task.options) if settings.task_options is None)
        lines += overruled or [
            f"the checkpoint was fine-tuned for version {settings.version} of task {task.name}, which is version "
            f"{task.version} here: answers and scores may differ"
            + (f"; give {flags} as in the fine-tuning" if flags else "")
        ]
    return options, lines


def _about_precision(trained: str, here: str) -> list[str]:
    if trained in ("", here):
        return []
    if here == "fp32":
        return [
            f"the checkpoint was fine-tuned in {trained} and computes in fp32 here; --{trained} is as in training"
        ]
    return [f"--{here} overrules the checkpoint's {trained}"]


def about_tokenizer(settings: Settings | None, tokenizer: Tokenizer) -> list[str]:
    """Return a line if a checkpoint was fine-tuned with another tokenizer."""
    if settings is None or settings.tokenizer.get("fingerprint") in (None, tokenizer.fingerprint):
        return []
    there, here = settings.tokenizer, tokenizer.options
    different = [
        f"{name} {there.get(name)}, here {value}" for name, value in here.items() if there.get(name) != value
    ]
    return [f"the checkpoint was fine-tuned with {'; '.join(different) or 'another vocabulary than that used here'}"]


def trained_task(settings: Settings | None, name: str) -> str:
    """Return the task that a model was fine-tuned for, for a user who has named none.

    Args:
        settings: of the checkpoint.
        name: of the checkpoint, as the user gave it.

    Raises:
        UsageError: if it does not say, or there were several.
    """
    if settings is None:
        raise UsageError(f"{name}: does not say what task it was fine-tuned for; give one (task)")
    if settings.joint:
        raise UsageError(f"{name}: fine-tuned for several tasks; give one (task) of {', '.join(settings.joint)}")
    return settings.task


def check_task(
    settings: Settings | None, task: Task, name: str, fitted: Callable[[Task], Task] = lambda task: task
) -> None:
    """Refuse a checkpoint whose head belongs to another kind of task.

    Args:
        settings: of the checkpoint; what was fine-tuned elsewhere shows by its weights whether it has the head.
        task: that is to be answered, fitted to the model.
        name: of the checkpoint, as the user gave it.
        fitted: fits another task to the model, see `heads.task_for`.

    Raises:
        UsageError: naming both tasks.
    """
    if settings is None or settings.task == task.name:
        return
    if settings.joint:
        names = ", ".join(settings.joint)
        raise UsageError(
            f"--model_name_or_path {name}: fine-tuned for several tasks, of which {task.name} is none; give one of "
            f"them with --task: {names}"
        )
    try:
        trained = fitted(get_task(settings.task))
    except DataError:  # a task that this installation does not have
        return
    if trained.problem.head != task.problem.head:
        raise UsageError(
            f"--model_name_or_path {name}: fine-tuned for task {settings.task}, whose head has other outputs than "
            f"that of {task.name}; give --task {settings.task}, or a checkpoint for {task.name}"
        )
