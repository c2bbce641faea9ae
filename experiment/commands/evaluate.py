"""Score a prediction file with the task's official metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiment.inputs.data import read_examples, scorer_of
from experiment.io.outputs import check_file
from experiment.io.predictions import read_numbers, read_predictions, write_score
from experiment.io.terminal import terminal
from experiment.options.flags import EvaluateOptions
from experiment.options.recipe import task_of
from preprocess.base.errors import DataError, UsageError
from preprocess.types import Example
from tasks.core.prediction import Score
from tasks.core.task import Task


def evaluate(options: EvaluateOptions) -> Score:
    """Score a prediction file and print the values.

    Raises:
        DataError: if one of the files can't be used.
    """
    check_file("--output", options.output)
    task = task_of(options)
    examples, report = read_examples(task, options.data_file)
    predictions = read_predictions(options.predictions, task, examples)
    console = terminal()
    if report.dropped:
        console.print("\n".join(report.lines()))
    missing = [example.id for example in examples if example.id not in predictions]
    if missing and options.missing_predictions == "error":
        raise DataError(f"{options.predictions}: {len(missing)} questions have no prediction, such as {missing[0]!r}")
    scorer = scorer_of(task, examples, report)
    if options.na_prob_file is None:
        try:
            score = scorer(predictions)
        except DataError as error:
            raise DataError(f"{options.predictions}: {error}") from None
    else:
        score = _score_by_odds(task, examples, predictions, options.na_prob_file, options.na_prob_thresh)
    if options.output is not None:
        write_score(options.output, task, score)
    width = max(len(name) for name in (*score.values, "questions")) + 2
    for name, value in score.values.items():
        console.print(f"{name:<{width}}{value:8.3f}")
    console.print(f"{'questions':<{width}}{score.n:8d}\n{'missing':<{width}}{score.n_missing:8d}")
    numbers = [id for id, answer in predictions.items() if not isinstance(answer, str)]
    if numbers:
        first = f"{numbers[0]!r}: {str(predictions[numbers[0]])!r}"
        console.print(f"{len(numbers)} predictions are numbers and scored as texts, such as {first}")
    n_unknown = len(predictions.keys() - {example.id for example in examples})
    if n_unknown:
        console.print(f"{n_unknown} predictions belong to no question and are not scored")
    return score


def _score_by_odds(
    task: Task, examples: Sequence[Example], predictions: Mapping[str, Any], na_prob_file: Path, threshold: float
) -> Score:
    if task.na_scorer is None:
        raise UsageError(f"--na_prob_file: task {task.name!r} has no metric that reads it; squad_v2 has")
    odds = read_numbers(na_prob_file)
    try:
        return task.na_scorer(examples, predictions, odds, threshold)
    except DataError as error:
        raise DataError(f"{na_prob_file}: {error}") from None
