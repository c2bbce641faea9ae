"""Prediction and score files: written by training and `predict`, read by `evaluate`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import write_json, write_text
from preprocess.base.hashing import sha256
from preprocess.base.jsonfile import describe, read_json, read_json_object
from preprocess.readers.layouts import is_scalar
from preprocess.readers.report import shown
from preprocess.types import Example
from tasks.core.nbest import nbest_json
from tasks.core.prediction import Prediction, Score
from tasks.core.task import Task

_PREDICTIONS, _PROTOCOL = "predictions.json", "protocol.json"


def write_predictions(
    task: Task, examples: Sequence[Example], directory: Path, predictions: Mapping[str, Prediction], suffix: str = ""
) -> None:
    """Write `predictions<suffix>.json` {id: answer}, the n-best lists, and what else the task's users expect."""
    answers = {id: task.answer(prediction) for id, prediction in predictions.items()}
    write_json(directory / f"predictions{suffix}.json", answers)
    if task.official is not None:
        write_json(directory / f"predictions_official{suffix}.json", task.official(examples, answers))
    if task.null_odds is not None:
        write_json(directory / f"null_odds{suffix}.json", task.null_odds(predictions))
    write_text(directory / f"nbest_predictions{suffix}.json", nbest_json(predictions))


def write_answers(
    task: Task,
    examples: Sequence[Example],
    directory: Path,
    answers: Mapping[str, str],
    protocol: Mapping[str, Any],
) -> None:
    """Write `predictions.json` {id: text} and, beside it, how these answers were come by.

    Args:
        task: whose answers they are.
        examples: the questions.
        directory: gets the files.
        answers: question id -> text.
        protocol: JSON-able; its "protocol" says in a few words what must be equal for scores to be compared.
    """
    write_json(directory / _PREDICTIONS, answers)
    if task.official is not None:
        write_json(directory / "predictions_official.json", task.official(examples, answers))
    write_protocol(directory, protocol)


def write_protocol(directory: Path, protocol: Mapping[str, Any]) -> None:
    """Write beside the `predictions.json` of a directory how they were come by; see `write_answers`."""
    write_json(directory / _PROTOCOL, {**protocol, "predictions_sha256": sha256(directory / _PREDICTIONS)})


def read_protocol(predictions: Path) -> dict[str, Any]:
    """Return what stands beside predictions of how they were come by; nothing if that is not there, or of others."""
    path = predictions.with_name(_PROTOCOL)
    if not path.is_file():
        return {}
    values = read_json_object(path, DataError, "delete it")
    return values if values.get("predictions_sha256") == sha256(predictions) else {}


def write_score(path: Path, task: Task, score: Score, **more: Any) -> None:
    """Write a score in full float precision: `values` in percent, `per_example` in 0-1; and JSON-able facts."""
    value = {
        "task": task.name,
        "version": task.version,
        "values": dict(score.values),
        "per_example": score.per_example,
    }
    write_json(path, {**value, "n": score.n, "n_missing": score.n_missing, **more}, indent=None)


def read_scores(path: Path) -> dict[str, dict[str, float]]:
    """Read the scores of each question, 0-1, from what `write_score` has written; none where it holds none.

    Raises:
        UsageError: if the file is damaged.
    """
    remedy = "score the seed again"
    values = read_json_object(path, UsageError, remedy).get("per_example") or {}
    rows = list(values.values()) if isinstance(values, dict) else [None]
    numbers = [number for row in rows if isinstance(row, dict) for number in row.values()]
    if not all(isinstance(row, dict) for row in rows) or not all(map(_is_number, numbers)):
        raise UsageError(f'{path}: "per_example" holds no scores by question and metric; {remedy}')
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_numbers(path: Path) -> dict[str, float]:
    """Read a JSON object {question id: number}; `DataError` for anything else."""
    remedy = "give a JSON object {question id: number}"
    values = read_json_object(path, DataError, remedy)
    for id, value in values.items():
        if not _is_number(value):
            raise DataError(f"{path}: {shown(id)!r} has {describe(value)}; {remedy}")
    return {id: float(value) for id, value in values.items()}


def read_nbest(path: Path, error: type[ValueError], remedy: str) -> dict[str, list[dict[str, Any]]]:
    """Read {question id: candidates}: each has a text, a probability and two logits; the best comes first.

    Args:
        path: the file.
        error: raised for anything else.
        remedy: what to do then.
    """
    values = read_json_object(path, error, remedy)
    for id, candidates in values.items():
        if not isinstance(candidates, list) or not all(map(_is_candidate, candidates)):
            raise error(f"{path}: {shown(id)!r} has no list of texts with probabilities; {remedy}")
    return values


def _is_candidate(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return False
    numbers = [value.get(name) for name in ("probability", "start_logit", "end_logit")]
    return all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)


def read_predictions(
    path: Path, task: Task | None = None, examples: Sequence[Example] = (), *, written_here: bool = False
) -> dict[str, Any]:
    """Read {question id: answer}, or the official list of {"id", "answer"} of CJRC and CoQA.

    Answers may be numbers, which the official scorers take as Python writes them.

    Args:
        path: the file.
        task: whose own official form is read, too, and such answers as it takes.
        examples: the questions, for that.
        written_here: whether answers of more than a text are to be believed, whatever the task.

    Raises:
        DataError: if the file is something else, or holds two answers to one question.
    """
    remedy = 'give a JSON object {question id: answer}, or a list of {"id", "answer"}'
    values = read_json(path, DataError, remedy)
    if task is not None and task.from_official is not None:
        values = task.from_official(examples, values)
    if isinstance(values, list):
        values = _by_id(path, values, remedy)
    elif not isinstance(values, dict):
        raise DataError(f"{path}: found {describe(values)}; {remedy}")
    takes = _has_parts if written_here else None if task is None else task.takes
    wrong = [id for id, answer in values.items() if not (_is_text(answer) or takes is not None and takes(answer))]
    if wrong:
        first = f"{shown(wrong[0])!r} has {describe(values[wrong[0]])}"
        what, give = ("neither texts nor numbers", "texts") if takes is None else ("not the task's", "its own")
        raise DataError(f"{path}: {len(wrong)} answers are {what} ({first}); give {give}")
    return values


def _by_id(path: Path, entries: list[Any], remedy: str) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not {"id", "answer"} <= entry.keys() or not is_scalar(entry["id"]):
            raise DataError(f"{path}: entry {number} of the list is {describe(entry)}; {remedy}")
        id, answer = str(entry["id"]), entry["answer"]
        before = answers.setdefault(id, answer)
        if before != answer or type(before) is not type(answer):
            raise DataError(
                f"{path}: {shown(id)!r} has two answers, {describe(before)} and {describe(answer)}; "
                "give one answer per question"
            )
    return answers


def _has_parts(value: Any) -> bool:
    return isinstance(value, list | dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or is_scalar(value) and math.isfinite(value)
