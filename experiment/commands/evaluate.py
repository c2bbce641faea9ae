"""Score a prediction file with the task's official metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiment.inputs.data import read_examples, scorer_of
from experiment.io.outputs import check_file
from experiment.io.predictions import read_nbest, read_numbers, read_predictions, write_score
from experiment.io.terminal import terminal
from experiment.options.flags import EvaluateOptions
from experiment.options.recipe import task_of
from experiment.report.sureness import Sureness, sureness_of
from preprocess.base.errors import DataError, UsageError
from preprocess.types import Example
from tasks.core.prediction import Score
from tasks.core.problem import Gathers
from tasks.core.task import Task
from tasks.metrics.calibration import confidence, without_twin
from tasks.problems.kinds import kinds_of


def evaluate(options: EvaluateOptions) -> Score:
    """Score a prediction file and print the values.

    Raises:
        DataError: if one of the files can't be used.
    """
    check_file("--output", options.output)
    task = task_of(options)
    if options.nbest_file is not None and isinstance(task.problem, Gathers):
        raise UsageError(f"--nbest_file: an answer of task {task.name} is all of its list, which has no probability")
    if options.na_prob_file is None and options.na_prob_thresh != EvaluateOptions.na_prob_thresh:
        raise UsageError("--na_prob_thresh is about the probabilities of --na_prob_file; give that, too")
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
    sureness = None if options.nbest_file is None else _sureness(task, options.nbest_file, predictions, score)
    if options.output is not None:
        write_score(options.output, task, score, **({} if sureness is None else {"confidence": sureness.as_json()}))
    width = max(len(name) for name in (*score.values, "questions")) + 2
    for name, value in score.values.items():
        console.print(f"{name:<{width}}{value:8.3f}")
    console.print(f"{'questions':<{width}}{score.n:8d}\n{'missing':<{width}}{score.n_missing:8d}")
    if sureness is not None:
        console.print("\n".join(sureness.lines()))
    numbers = [id for id, answer in predictions.items() if isinstance(answer, int | float)]
    if numbers:
        first = f"{numbers[0]!r}: {str(predictions[numbers[0]])!r}"
        console.print(f"{len(numbers)} predictions are numbers and scored as texts, such as {first}")
    n_unknown = len(predictions.keys() - {example.id for example in examples})
    if n_unknown:
        console.print(f"{n_unknown} predictions belong to no question and are not scored")
    return score


def _sureness(task: Task, nbest_file: Path, predictions: Mapping[str, Any], score: Score) -> Sureness:
    nbest = read_nbest(nbest_file, DataError, "give the nbest_predictions.json of the same answers")
    kinds = kinds_of(task.problem)
    sure = {
        id: confidence(without_twin(nbest[id], kinds), str(answer))
        for id, answer in predictions.items()
        if id in nbest
    }
    found = sureness_of(sure, score)
    if not found.n_known:
        raise DataError(f"{nbest_file}: none of its lists holds the answer to its question; give that of the answers")
    return found


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
