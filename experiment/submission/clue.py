"""CLUE's archive: a file of answers for each of its reading tasks that somebody has answered.

Source: CLUE's page on submissions (任务提交说明, of 2021-09-04) names archive and files, and shows the answers to
CMRC2018; its baselines write what the other two hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiment.inputs.data import read_examples
from experiment.submission.answers import answers_of, check_answers
from preprocess.base.errors import DataError, UsageError
from preprocess.readers.c3 import ID
from preprocess.types import Example
from tasks.core.discovery import get_task
from tasks.core.task import Task

_ARCHIVE = re.compile(r"submit_[^_]+_[^_]+\.zip")
#: Task -> its file. Test files of version 1.1 have taken the place of the first ones where the name says so.
_FILES = {"cmrc2018": "cmrc2018_predict.json", "c3": "c311_predict.json", "chid": "chid11_predict.json"}


def clue_content(runs: Sequence[Path], data_files: Sequence[Path], archive: str) -> tuple[Mapping[str, bytes], int]:
    """Return the files of the archive, and how many answers are in them.

    Args:
        runs: who answers, one for each test file; see `answers_of`.
        data_files: the test files, whose layouts say of which tasks they are.
        archive: its name.

    Raises:
        UsageError, DataError: if that is none that CLUE takes, or answers are missing or can't be meant.
    """
    if not _ARCHIVE.fullmatch(archive):
        raise UsageError(f"--output {archive}: CLUE wants a name like submit_myteamname_mydate.zip")
    if len(runs) != len(data_files):
        raise UsageError(f"{len(runs)} RUNS and {len(data_files)} --data_file: give each of them its test file")
    content: dict[str, bytes] = {}
    n = 0
    for run, path in zip(runs, data_files, strict=True):
        task, examples = _read(path)
        if _FILES[task.name] in content:
            raise UsageError(f"--data_file {path}: a second test file of {task.name}; the archive takes one")
        where, answers = answers_of(run, task.name)
        check_answers(where, examples, answers)
        texts = {example.id: str(answers[example.id]) for example in examples}
        content[_FILES[task.name]] = _written(task, examples, texts).encode()
        n += len(texts)
    return content, n


def _read(path: Path) -> tuple[Task, list[Example]]:
    """Read a test file as the task that can: no two of them have the same layout."""
    problems = []
    for task in map(get_task, _FILES):
        try:
            return task, read_examples(task, path)[0]
        except DataError as error:
            problems.append(f"{task.name}: {error}")
    raise DataError(f"{path}: no test file of {', '.join(_FILES)} ({'; '.join(problems)}); give one of these")


def _written(task: Task, examples: Sequence[Example], texts: Mapping[str, str]) -> str:
    if task.name == "c3":
        return "".join(_labels(examples, texts))
    return json.dumps(task.official(examples, texts) if task.official else texts, ensure_ascii=False, indent=2)


def _labels(examples: Sequence[Example], texts: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each question in the order of the file: its id, or number, and the index of the option."""
    named = all(ID in example.extra for example in examples)
    for number, example in enumerate(examples):
        own = example.extra[ID] if named else str(number)
        label = example.options.index(texts[example.id])
        yield json.dumps({"id": int(own) if own.isdecimal() else own, "label": label}) + "\n"
