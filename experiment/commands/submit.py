"""The archive that an organiser reads."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from experiment.inputs.data import read_examples
from experiment.io.outputs import check_file
from experiment.io.terminal import terminal
from experiment.options.answers import SubmitOptions
from experiment.submission.answers import answers_of, check_answers
from experiment.submission.archive import write_archive
from experiment.submission.program import RULES, content_of, try_out
from preprocess.base.errors import UsageError
from preprocess.base.files import replacing
from tasks.core.discovery import get_task

#: Source: CLUE's page on submissions (任务提交说明, of 2021-09-04), which names archive and files.
_CLUE_ARCHIVE = re.compile(r"submit_[^_]+_[^_]+\.zip")
_CLUE_TASK = "cmrc2018"
_CLUE_FILE = f"{_CLUE_TASK}_predict.json"


def submit(options: SubmitOptions) -> None:
    """Pack a submission, look at it as the organiser will, and only then write it.

    Raises:
        UsageError, DataError: if answers are missing or can't be meant, or the packed program fails.
    """
    check_file("--output", options.output)
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory) / "archive.zip"
        if options.organiser == "clue":
            content, n = _clue(options)
            write_archive(archive, content)
        else:
            rules = RULES[options.organiser]
            write_archive(archive, content_of(options.run, rules))
            n = try_out(archive, options.data_file, Path(directory) / "tried", rules)
        with archive.open("rb") as packed, replacing(options.output) as file:
            shutil.copyfileobj(packed, file)
    what = "answers" if options.organiser == "clue" else "questions answered by its main.py on trial"
    terminal().print(f"{options.output}: {options.output.stat().st_size} bytes, {n} {what}")


def _clue(options: SubmitOptions) -> tuple[Mapping[str, bytes], int]:
    if not _CLUE_ARCHIVE.fullmatch(options.output.name):
        raise UsageError(f"--output {options.output}: CLUE wants a name like submit_myteamname_mydate.zip")
    examples, _ = read_examples(get_task(_CLUE_TASK), options.data_file)
    where, answers = answers_of(options.run, _CLUE_TASK)
    check_answers(where, examples, answers)
    texts = {example.id: str(answers[example.id]) for example in examples}
    return {_CLUE_FILE: json.dumps(texts, ensure_ascii=False, indent=2).encode()}, len(texts)
