"""Fetch the published files of a task."""

from __future__ import annotations

from pathlib import Path

from experiment.inputs.download import fetch_all, task_directory
from experiment.options.flags import DownloadOptions
from preprocess.base.errors import UsageError
from tasks.core.discovery import get_task


def download(options: DownloadOptions) -> list[Path]:
    """Fetch the published files of a task and print what became of each.

    Returns:
        the files, in the order of `Task.sources`.

    Raises:
        UsageError: if the task publishes no such split.
        DataError: naming every file that could not be fetched; the others are in their place.
    """
    task = get_task(options.task)
    if not task.sources:
        raise UsageError(f"task {task.name!r} lists no files to download; give files of your own with --train_file")
    known = list(dict.fromkeys(source.split for source in task.sources))
    unknown = [split for split in options.splits if split not in known]
    if unknown:
        raise UsageError(f"--splits {unknown[0]}: task {task.name!r} publishes {', '.join(known)}")
    sources = [source for source in task.sources if not options.splits or source.split in options.splits]
    return fetch_all(sources, task_directory(task, options.data_dir))
