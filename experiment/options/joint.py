"""Several tasks in one run: which they are, what each is told of what was typed, and how often each has its turn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from experiment.options.data import JointOptions, TaskChoice, TasksChoice
from preprocess.base.errors import UsageError
from preprocess.base.names import did_you_mean
from tasks.core.discovery import get_task
from tasks.core.task import TaskOptions

#: Where the shares are equalised by temperature and nobody says how far.
_TEMPERATURE = 2.0
_JOINT = tuple(field.name for field in fields(JointOptions))
#: Options of which each task may have a value of its own.
BY_TASK = ("train_file", "validation_file", "test_file")

Options = TypeVar("Options", bound=Any)


@dataclass(frozen=True)
class Sampling:
    """How often each of several tasks has its turn.

    Args:
        power: to which the numbers of steps per epoch are taken; 1 for shares in proportion, 0 for equal ones.
        weights: task -> its share, in any unit, whatever its number of steps; None where the power decides.
    """

    power: float = 1.0
    weights: Mapping[str, float] | None = None

    def turns(self, n_steps: Sequence[int]) -> list[int]:
        """Divide an epoch into turns: as many as there are steps in all, at least one for each task.

        Args:
            n_steps: steps that it takes to see each task's windows once; in the order of the weights, if there are.
        """
        total = sum(n_steps)
        asked = list(self.weights.values()) if self.weights else [n**self.power for n in n_steps]
        shares = [total * share / math.fsum(asked) for share in asked]
        turns = [max(1, math.floor(share)) for share in shares]
        while (left := total - sum(turns)) != 0:
            # Who lacks most gets one; who has most beyond its share, and more than one, gives it.
            surplus = [n - share for n, share in zip(turns, shares, strict=True)]
            if left > 0:
                turns[surplus.index(min(surplus))] += 1
            else:
                turns[max((i for i, n in enumerate(turns) if n > 1), key=lambda i: surplus[i])] -= 1
        return turns

    def as_options(self) -> dict[str, Any]:
        """Return the options that say it."""
        how = "weights" if self.weights else {0.0: "equal", 1.0: "proportional"}.get(self.power, "temperature")
        return {
            "task_sampling": how,
            "sampling_temperature": 1 / self.power if how == "temperature" else None,
            "task_weights": self.weights and dict(self.weights),
        }


def sampling_words(options: Mapping[str, Any]) -> str:
    """Say how tasks have their turns, by the options of `Sampling.as_options`."""
    weights, temperature = options["task_weights"] or {}, options["sampling_temperature"]
    details = [f"{task}={weight:g}" for task, weight in weights.items()]
    details += [f"{temperature:g}"] if temperature is not None else []
    return " ".join([options["task_sampling"], *details])


PROPORTIONAL = Sampling()


def task_name(options: TaskChoice) -> str:
    """Return the name of the only task that was typed; that of SQuAD depends on another flag."""
    return _named(options.task, options)


def task_names_of(options: TaskChoice) -> tuple[str, ...]:
    """Return the names of the tasks that were typed.

    Raises:
        UsageError: if there is none, or one stands there twice.
    """
    names = [_named(name.strip(), options) for name in options.task.split(",")]
    if "" in names:
        raise UsageError(f"--task {options.task!r}: names of tasks with commas between them were expected")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UsageError(f"--task {options.task}: {twice[0]} stands there twice")
    return tuple(names)


def _named(name: str, options: TaskChoice) -> str:
    return "squad_v2" if name == "squad" and options.version_2_with_negative else name


def of_each_task(options: Options) -> dict[str, Options]:
    """Return what each task is told: its own files, and those choices about tasks that it has.

    Args:
        options: of a command that takes several tasks.

    Raises:
        UsageError, DataError: for tasks that do not exist, choices that none of them has, and files that are none's.
    """
    names = task_names_of(options)
    files = {flag: _files(options, flag, names) for flag in BY_TASK if hasattr(options, flag)}
    if len(names) == 1:
        own = {flag: by_task.get(names[0]) for flag, by_task in files.items()}
        return {names[0]: replace(options, **dict.fromkeys(_JOINT), **own)}
    chosen = [field.name for field in fields(TaskOptions) if getattr(options, field.name) is not None]
    known = {name: get_task(name).options for name in names}
    if foreign := [name for name in chosen if not any(name in has for has in known.values())]:
        raise UsageError(f"--{foreign[0]}: none of the tasks {', '.join(names)} has this option")
    return {
        name: replace(
            options,
            task=name,
            **dict.fromkeys(_JOINT),
            **{choice: None for choice in chosen if choice not in known[name]},
            **{flag: by_task.get(name) for flag, by_task in files.items()},
        )
        for name in names
    }


def _files(options: TasksChoice, flag: str, names: Sequence[str]) -> dict[str, Any]:
    """Return the files of a flag by task."""
    given = getattr(options, flag)
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if len(names) == 1:
            return {names[0]: given}
        example = f"{names[0]}={given}"
        raise UsageError(f"--{flag} {given}: of several tasks each has its own, given as TASK=FILE ({example})")
    named = {_named(task, options): value for task, value in given.items()}
    if foreign := [task for task in named if task not in names]:
        raise UsageError(
            f"--{flag} {foreign[0]}=…: {foreign[0]} is none of the tasks {', '.join(names)}"
            f"{did_you_mean(foreign[0], list(names))}"
        )
    return named


def sampling_of(options: TasksChoice) -> Sampling:
    """Return how often each task has its turn.

    Raises:
        UsageError: for what does not go together.
    """
    assert isinstance(options, JointOptions)
    names, how = task_names_of(options), options.task_sampling
    given = next((name for name in _JOINT if getattr(options, name) is not None), None)
    if len(names) == 1:
        if given is not None:
            raise UsageError(
                f"--{given}: --task {options.task} is one task; it is for several, such as cmrc2018,drcd"
            )
        return PROPORTIONAL
    if how is None:
        how = "weights" if options.task_weights is not None else "proportional"
        how = "temperature" if options.sampling_temperature is not None and options.task_weights is None else how
    for name, belongs_to in (("sampling_temperature", "temperature"), ("task_weights", "weights")):
        if getattr(options, name) is not None and how != belongs_to:
            raise UsageError(f"--{name} is for --task_sampling {belongs_to}, and here it is {how}; leave one out")
    if how == "weights":
        return Sampling(weights=_weights(options, names))
    return Sampling({"equal": 0.0, "temperature": 1 / (options.sampling_temperature or _TEMPERATURE)}.get(how, 1.0))


def _weights(options: JointOptions, names: Sequence[str]) -> dict[str, float]:
    assert isinstance(options, TaskChoice)
    given = {_named(task, options): weight for task, weight in (options.task_weights or {}).items()}
    missing, foreign = [name for name in names if name not in given], [name for name in given if name not in names]
    if missing or foreign:
        what = f"{missing[0]} has none" if missing else f"{foreign[0]} is none of the tasks"
        raise UsageError(f"--task_weights: a weight for each of {', '.join(names)} was expected; {what}")
    return {name: given[name] for name in names}
