"""Checking a user's data files: every question accounted for, and text that occurs twice or in two splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiment.inputs.overlap import Shared, duplicates, shared
from experiment.io.outputs import check_file
from experiment.io.terminal import terminal
from experiment.options.flags import ValidateOptions
from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import write_json
from preprocess.readers.report import DataReport
from preprocess.types import Example
from tasks.core.discovery import get_task
from tasks.core.task import Task

#: Printed per list; the JSON report holds all.
_PRINTED = 20


def validate(options: ValidateOptions) -> int:
    """Print the report of every file, and what --train and --dev share.

    Returns:
        the exit status: 1 if a question, paragraph or article of any file was dropped, else 0.

    Raises:
        UsageError: if no file is given, or only one of --train and --dev.
        DataError: naming all files that can't be used at all, after the reports of the others.
    """
    check_file("--output", options.output)
    if (options.train is None) != (options.dev is None):
        raise UsageError("--train and --dev belong together: give both to compare them")
    pair = [path for path in (options.train, options.dev) if path is not None]
    paths = list(dict.fromkeys([*options.files, *pair]))
    if not paths:
        raise UsageError("validate needs files to check, or --train and --dev")
    checked, unusable = _read_all(get_task(options.task), paths)
    document: dict[str, Any] = {"task": options.task, "files": [], "unusable": unusable}
    for examples, report in checked.values():
        repeated = duplicates(examples)
        _print([*report.lines(limit=None), *_lines(repeated, "repeated in the file")])
        problems = [dataclasses.asdict(problem) for problem in report.problems]
        document["files"].append({**report.to_json(), "problems": problems, "repeated": _to_json(repeated)})
    if pair and checked.keys() >= set(pair):
        overlap = shared(checked[pair[0]][0], checked[pair[1]][0])
        _print([f"{pair[0]} and {pair[1]}:", *_lines(overlap, "shared")])
        document["shared"] = _to_json(overlap)
    if options.output is not None:
        write_json(options.output, document)
    if unusable:
        raise DataError("; ".join(unusable))
    return int(any(report.lost for _, report in checked.values()))


def _read_all(task: Task, paths: Sequence[Path]) -> tuple[dict[Path, tuple[list[Example], DataReport]], list[str]]:
    checked: dict[Path, tuple[list[Example], DataReport]] = {}
    unusable: list[str] = []
    for path in paths:
        try:
            checked[path] = task.read(path)
        except DataError as error:
            unusable.append(str(error))
    return checked, unusable


def _lines(matches: Mapping[str, Sequence[Shared]], how: str) -> list[str]:
    lines = []
    for name, items in matches.items():
        n_exact = sum(item.exact for item in items)
        lines.append(f"  {name} {how}: {n_exact} exact, {len(items)} after normalisation")
        for item in items[:_PRINTED]:
            equal = "=" if item.exact else "~"
            lines.append(f"    {_ids(item.left)} {equal} {_ids(item.right)}")
        if len(items) > _PRINTED:
            lines.append(f"    … and {len(items) - _PRINTED} more (all of them in --output)")
    return lines


def _ids(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} (and {len(ids) - 1} more)"


def _to_json(matches: Mapping[str, Sequence[Shared]]) -> dict[str, Any]:
    return {
        name: {
            "n_exact": sum(item.exact for item in items),
            "n_normalised": len(items),
            "texts": [dataclasses.asdict(item) for item in items],
        }
        for name, items in matches.items()
    }


def _print(lines: Iterable[str]) -> None:
    console = terminal()
    for line in lines:
        console.print(line)
