"""Prediction and score files: written by training and `predict`, read by `evaluate`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from preprocess.base.errors import DataError
from preprocess.base.files import write_json, write_text
from tasks.core.nbest import nbest_json
from tasks.core.prediction import Prediction, Score
from tasks.core.task import Task


def write_predictions(task: Task, directory: Path, predictions: Mapping[str, Prediction], suffix: str = "") -> None:
    """Write `predictions<suffix>.json` {id: text}, the n-best lists, and what else the task's users expect."""
    answers = {id: prediction.text for id, prediction in predictions.items()}
    write_json(directory / f"predictions{suffix}.json", answers)
    if task.official is not None:
        write_json(directory / f"predictions_official{suffix}.json", task.official(answers))
    if task.null_odds is not None:
        write_json(directory / f"null_odds{suffix}.json", task.null_odds(predictions))
    write_text(directory / f"nbest_predictions{suffix}.json", nbest_json(predictions))


def write_score(path: Path, task: Task, score: Score) -> None:
    """Write a score in full float precision: `values` in percent, `per_example` in 0-1."""
    value = {
        "task": task.name,
        "version": task.version,
        "values": dict(score.values),
        "per_example": score.per_example,
    }
    write_json(path, {**value, "n": score.n, "n_missing": score.n_missing}, indent=None)


def number(id: str, value: Any, path: Path) -> float:
    """Return the number that a file holds for a question; `DataError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{path}: {id}: a number was expected, found {value!r}")
    return float(value)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object by question id; `DataError` for anything else."""
    values = _read_json(path)
    if not isinstance(values, dict):
        raise DataError(f"{path}: a JSON object by question id was expected, found a {type(values).__name__}")
    return values


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None


def read_predictions(path: Path) -> dict[str, Any]:
    """Read {question id: answer}, or the official list of {"id", "answer"}; `DataError` for anything else."""
    values = _read_json(path)
    if isinstance(values, list) and all(isinstance(v, dict) and {"id", "answer"} <= v.keys() for v in values):
        values = {str(v["id"]): v["answer"] for v in values}  # the official form of CJRC and CoQA
    if not isinstance(values, dict):
        raise DataError(
            f"{path}: a JSON object {{question id: answer}} was expected, or a list of {{id, answer}}, found a "
            f"{type(values).__name__}"
        )
    nested = [id for id, answer in values.items() if isinstance(answer, dict | list) or answer is None]
    if nested:
        raise DataError(f"{path}: {len(nested)} answers are no strings, such as that of {nested[0]!r}: give texts")
    return values
