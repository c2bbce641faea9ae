"""The archive that an organiser reads."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from experiment.io.outputs import check_file
from experiment.io.terminal import terminal
from experiment.options.answers import SubmitOptions
from experiment.submission.archive import write_archive
from experiment.submission.clue import clue_content
from experiment.submission.program import RULES, content_of, try_out
from preprocess.base.errors import UsageError
from preprocess.base.files import replacing


def submit(options: SubmitOptions) -> None:
    """Pack a submission, look at it as the organiser will, and only then write it.

    Raises:
        UsageError, DataError: if answers are missing or can't be meant, or the packed program fails.
    """
    check_file("--output", options.output)
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory) / "archive.zip"
        if options.organiser == "clue":
            content, n = clue_content(options.runs, options.data_file, options.output.name)
            write_archive(archive, content)
        else:
            rules, (run, data_file) = RULES[options.organiser], _only(options)
            write_archive(archive, content_of(run, rules))
            n = try_out(archive, data_file, Path(directory) / "tried", rules)
        with archive.open("rb") as packed, replacing(options.output) as file:
            shutil.copyfileobj(packed, file)
    what = "answers" if options.organiser == "clue" else "questions answered by its main.py on trial"
    terminal().print(f"{options.output}: {options.output.stat().st_size} bytes, {n} {what}")


def _only(options: SubmitOptions) -> tuple[Path, Path]:
    """Return the run and the data file of an organiser who takes one program."""
    if len(options.runs) != 1 or len(options.data_file) != 1:
        raise UsageError(f"--for {options.organiser}: give one run and one --data_file")
    return options.runs[0], options.data_file[0]
