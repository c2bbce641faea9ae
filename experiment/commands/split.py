"""Splitting a data file in two, so that no article (case) and no context is in both parts."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from experiment.inputs.data import read_examples
from experiment.inputs.partition import draw, groups_of
from experiment.io.outputs import check_directory
from experiment.io.terminal import terminal
from experiment.options.flags import SplitOptions
from experiment.options.recipe import task_of
from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import write_text
from preprocess.base.jsonfile import read_bytes
from preprocess.readers.report import DataReport
from preprocess.types import Example
from tasks.core.task import Task


def split(options: SplitOptions) -> None:
    """Write train and dev in the layout of the data file, its items in their published order.

    Articles with the same id, case id or title, or with a context in common, form a group that stays together, and so
    do rows with the same text. Groups are drawn by the seed, of each published "domain" or label as many as its share
    asks for.

    Raises:
        UsageError, DataError: for options and files that can't be used.
    """
    if not 0 < options.test_size < 1:
        raise UsageError(f"--test_size {options.test_size}: a share between 0 and 1 was expected, such as 0.1")
    check_directory("--output_dir", options.output_dir)
    task = task_of(options)
    content = read_bytes(options.data_file, DataError)
    parts = task.parts(content, options.data_file)
    paths = {name: options.output_dir / f"{name}{parts.suffix}" for name in ("train", "dev")}
    for path in paths.values():
        if path.exists():
            raise UsageError(f"{path}: is there already; delete it or give another --output_dir")
    _, report = _read(task, options.data_file, content)
    groups = groups_of(parts.ties)
    if len(groups) < 2:
        what = "one article (or case)" if parts.unit == "articles" else f"{parts.unit} that belong together"
        raise UsageError(f"{options.data_file}: holds {what}; it can't be split")
    held_out = draw(groups, [parts.strata[group[0]] for group in groups], options.test_size, options.seed)
    lines, texts = report.lines(), {}
    for name, path in paths.items():
        part = [index for index in range(len(parts.ties)) if (index in held_out) == (name == "dev")]
        texts[path] = parts.write(part)
        examples, _ = _read(task, path, texts[path].encode("utf-8"))
        strata = Counter(parts.strata[index] for index in part)
        counts = "".join(f", {stratum} {n}" for stratum, n in sorted(strata.items()) if stratum)
        lines.append(f"{path}: {len(part)} {parts.unit}{counts}; {len(examples)} questions")
    _write(texts)
    console = terminal()
    for line in lines:
        console.print(line)


def _write(texts: Mapping[Path, str]) -> None:
    """Write files that are not there yet: all of them, or none."""
    try:
        for path, text in texts.items():
            write_text(path, text)
    except BaseException:
        for path in texts:
            path.unlink(missing_ok=True)
        raise


def _read(task: Task, path: Path, content: bytes) -> tuple[list[Example], DataReport]:
    """Let the task read what was read of a file, or will be written; a pipe can't be read again."""
    if path.is_file():
        return read_examples(task, path)
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(content)
        copy.flush()
        try:
            examples, report = read_examples(task, Path(copy.name))
        except DataError as error:
            raise DataError(str(error).replace(copy.name, str(path))) from None
    report.file = str(path)
    return examples, report
