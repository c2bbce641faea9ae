"""Finds the tasks: every module directly under `tasks/` that defines `TASK`. There is no list to keep."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from dataclasses import fields
from types import ModuleType

from preprocess.base.errors import DataError
from tasks.core.task import Task, TaskOptions


def find_tasks(package: ModuleType) -> dict[str, Task]:
    """Return the `TASK` of every module of a package by its name, sorted; sub-packages are not searched."""
    tasks: dict[str, Task] = {}
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if module.ispkg:
            continue
        task = getattr(importlib.import_module(module.name), "TASK", None)
        if isinstance(task, Task):
            assert task.name not in tasks, f"two modules define the task {task.name!r}"
            tasks[task.name] = task
    return dict(sorted(tasks.items()))


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks, sorted."""
    return tuple(find_tasks(importlib.import_module("tasks")))


def get_task(name: str, options: TaskOptions | None = None) -> Task:
    """Return the task of that name, with a user's choices made.

    Raises:
        DataError: with the nearest name, or all of them, if there is none; or if the task has no such option.
    """
    tasks = find_tasks(importlib.import_module("tasks"))
    if name in tasks:
        return tasks[name] if options is None else _configured(tasks[name], options)
    if "," in name:
        raise DataError(f"{name!r} are several tasks, which only train, plan and grid take; give one of them")
    near = [known for known in tasks if name and known.startswith(name)] or difflib.get_close_matches(
        name, tasks, n=1
    )
    hint = f"did you mean {near[0]!r}?" if near else f"known tasks: {', '.join(tasks)}."
    raise DataError(f"unknown task {name!r}; {hint}")


def _configured(task: Task, options: TaskOptions) -> Task:
    chosen = [field.name for field in fields(options) if getattr(options, field.name) is not None]
    foreign = [name for name in chosen if name not in task.options]
    if foreign:
        known = ", ".join(f"--{name}" for name in sorted(task.options)) or "none"
        raise DataError(f"task {task.name!r} has no option --{foreign[0]} (its options: {known})")
    return task.configure(options) if chosen and task.configure is not None else task
