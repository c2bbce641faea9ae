"""The list of tasks: what they are trained with, and where their files are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from experiment.inputs.download import command, task_directory
from experiment.io.terminal import terminal
from experiment.options.flags import TasksOptions
from tasks.core.discovery import get_task, task_names
from tasks.core.task import Source, Task


def tasks(options: TasksOptions) -> None:
    """Print every task with its version, recipe and files."""
    console = terminal()
    for name in task_names():
        for line in describe(get_task(name), options.data_dir):
            console.print(line)


def describe(task: Task, data_dir: Path) -> Iterator[str]:
    """Yield the lines about one task."""
    yield f"{task.name}: {task.title} (version {task.version})"
    yield "  recipe: " + " ".join(f"--{name} {value}" for name, value in task.defaults.items())
    if task.options:
        yield "  options: " + " ".join(f"--{name}" for name in sorted(task.options))
    for source in task.sources:
        yield f"  {source.split:<6}{source.file_name}  {_facts(source)}"
        yield f"        {source.url}"
        path = task_directory(task, data_dir) / source.file_name
        yield f"        {path if path.is_file() else f'not downloaded: {command(task, data_dir)}'}"
    if not task.sources:
        yield "  no published files; give your own"


def _facts(source: Source) -> str:
    size = f"{source.n_bytes / 1e6:.1f} MB" if source.n_bytes else "size unknown"
    return f"{size}, {source.licence or 'no licence stated'}"
