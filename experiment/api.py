"""What Python programs use: train, evaluate, tabulate, and ask. `docs/python-api.md` explains it.

Names and arguments stay as they are from version to version. A framework is imported when it has to compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiment.inputs.data import read_examples, scorer_of
from experiment.io.predictions import read_predictions
from experiment.options.arguments import from_values
from experiment.options.data import TaskChoice
from experiment.options.flags import TrainOptions
from experiment.options.recipe import task_of
from experiment.reading.reader import Reader
from experiment.reading.results import Alternative, Question, Result, Window
from experiment.report.entries import Entry
from experiment.report.measured import entries_of_run
from experiment.report.remarks import remarks, with_remarks
from experiment.report.table import leaderboard as table_of
from experiment.training.finished import each_run
from experiment.training.record import Record
from preprocess.base.errors import CheckpointError, DataError, UsageError
from tasks.core.prediction import Prediction, Score

__all__ = [
    "Alternative",
    "CheckpointError",
    "DataError",
    "Question",
    "Reader",
    "Result",
    "UsageError",
    "Window",
    "evaluate",
    "leaderboard",
    "train",
]


def train(task: str, output_dir: str | Path, **options: Any) -> list[Record]:
    """Fine-tune over seeds and evaluate, as `run_mrc.py train`; what is going on is printed.

    The same call goes on with the seeds that are not finished.

    Args:
        task: name of the task, such as "cmrc2018".
        output_dir: run directory, which `Reader.load` and `leaderboard` read.
        **options: those of `train` by name, such as model_name_or_path, train_file, seeds=[1, 2] or learning_rate.

    Returns:
        the Record of each seed: scores, options, hashes and versions.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used, one line each.
        TrainingError: if training can't go on.
    """
    from experiment.training.protocol import train as run

    return run(from_values({"task": task, "output_dir": output_dir, **options}, TrainOptions))


def evaluate(
    task: str,
    data_file: str | Path | Sequence[str | Path],
    predictions: str | Path | Mapping[str, Any] | Reader,
    **options: Any,
) -> Score:
    """Score answers with the task's official metric.

    Args:
        task: name of the task.
        data_file: questions with the right answers; several files are read as one.
        predictions: file that `predict` has written, in our form or the official one; answers (texts, for most tasks)
            or Predictions by question id; or a reader, which answers now.
        **options: choices about the task, such as opencc_config.

    Returns:
        values in percent by metric, and those of each question.

    Raises:
        UsageError, DataError: for options and files that can't be used, one line each.
    """
    configured = task_of(from_values({"task": task, **options}, TaskChoice))
    files = Path(data_file) if isinstance(data_file, str | Path) else tuple(map(Path, data_file))
    examples, report = read_examples(configured, files)
    scorer = scorer_of(configured, examples, report)
    answers: Mapping[str, Any]
    if isinstance(predictions, Reader):
        answers = predictions.predict(examples)
    elif isinstance(predictions, Mapping):
        answers = predictions
    else:
        answers = read_predictions(Path(predictions), configured, examples)
    return scorer(
        {id: configured.answer(each) if isinstance(each, Prediction) else each for id, each in answers.items()}
    )


class Leaderboard:
    """The table of runs; a notebook shows it as a table, and `str` as Markdown.

    Args:
        runs: run directories.
    """

    def __init__(self, runs: tuple[Path, ...]) -> None:
        """Read the runs' Records.

        Raises:
            UsageError: if one of them holds none.
        """
        self.notes: list[str] = remarks(runs)
        self._text = with_remarks(table_of(runs), self.notes)
        self.entries: list[Entry] = [entry for run in runs for entry in entries_of_run(run, None)]

    def __str__(self) -> str:
        """Return the table as Markdown, with the notes below it."""
        return self._text

    _repr_markdown_ = __str__


def leaderboard(*runs: str | Path) -> Leaderboard:
    """Tabulate run directories as mean(max) over their seeds.

    Args:
        *runs: run directories, or a grid's.

    Returns:
        the table, whose `entries` hold every number, and whose `notes` say which seeds did not learn and which rows
        can't be compared.

    Raises:
        UsageError: if one of them holds no Record.
    """
    if not runs:
        raise UsageError("leaderboard: give run directories")
    return Leaderboard(each_run([Path(run) for run in runs]))
