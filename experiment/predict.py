"""Prediction with a fine-tuned model, and scoring of prediction files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiment.backend import choose_device, load_backend
from experiment.config import EvaluateOptions, PredictOptions, UsageError
from experiment.files import write_json, write_text
from experiment.settings import read_settings
from experiment.setup import (
    check_limits,
    decode_options,
    encode,
    first_targets,
    logits_of,
    model_source,
    read_examples,
    resolve_recipe,
    task_of,
)
from experiment.terminal import Bars, terminal
from preprocess.text import is_unicode
from preprocess.types import DataError, Example
from tasks.core.nbest import nbest_json
from tasks.core.task import Prediction, Score, Task


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


def predict(options: PredictOptions) -> dict[str, Prediction]:
    """Answer a file of questions, or one question, and print or write the answers.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
    """
    one = options.question is not None and options.context is not None
    if one == (options.test_file is not None) or (options.question is None) != (options.context is None):
        raise UsageError("give either --test_file, or --question and --context")
    checkpoint = options.model_name_or_path
    if checkpoint is None:
        raise UsageError("give the fine-tuned model with --model_name_or_path")
    if not (is_unicode(options.question or "") and is_unicode(options.context or "")):
        raise UsageError("--question and --context must be valid UTF-8")
    if options.test_file is not None and options.output_dir is None:
        raise UsageError("give --output_dir, the directory for the predictions")
    task = task_of(options)
    options = resolve_recipe(options, task, checkpoint, read_settings(checkpoint, task))
    backend = load_backend(options.framework)
    source = model_source(options)
    check_limits(options, source.name, source.config, source.published)
    console = terminal()
    if options.test_file is not None:
        examples, report = read_examples(task, options.test_file)
        for line in report.lines():
            console.print(line)
    else:
        examples = [Example("question", options.question or "", options.context or "")]
    device = choose_device(backend, options.device)
    model, _ = backend.load_model(source.config, task.head, checkpoint, device=device, fresh_head=False)
    data = encode(task, examples, first_targets(task, examples), source.tokenizer, options)
    with Bars(console) as bars:
        logits = logits_of(backend, model, data, options, bars, "windows")
        predictions = task.decode(data.examples, data.features, logits, decode_options(options))
    if options.output_dir is not None:
        write_predictions(task, options.output_dir, predictions)
        console.print(f"{len(predictions)} answers written to {options.output_dir}")
    if one:
        best = predictions["question"]
        chosen = next((candidate for candidate in best.nbest if candidate.text == best.text), best.nbest[0])
        place = f"[{best.char_start}:{best.char_end}]"
        console.print(f"{best.text or '(no answer)'}  {place} p={chosen.probability:.3f}")
    return predictions


def evaluate(options: EvaluateOptions) -> Score:
    """Score a prediction file and print the values.

    Raises:
        DataError: if one of the files can't be used.
    """
    task = task_of(options)
    examples, report = read_examples(task, options.data_file)
    predictions = _read_predictions(options.predictions)
    console = terminal()
    if report.dropped:
        console.print("\n".join(report.lines()))
    missing = [example.id for example in examples if example.id not in predictions]
    if missing and options.missing_predictions == "error":
        raise DataError(f"{options.predictions}: {len(missing)} questions have no prediction, such as {missing[0]!r}")
    score = _score(task, examples, predictions, options)
    if options.output is not None:
        write_score(options.output, task, score)
    width = max(len(name) for name in (*score.values, "questions")) + 2
    for name, value in score.values.items():
        console.print(f"{name:<{width}}{value:8.3f}")
    console.print(f"{'questions':<{width}}{score.n:8d}\n{'missing':<{width}}{score.n_missing:8d}")
    n_unknown = len(predictions.keys() - {example.id for example in examples})
    if n_unknown:
        console.print(f"{n_unknown} predictions belong to no question and are not scored")
    return score


def _score(
    task: Task, examples: Sequence[Example], predictions: Mapping[str, Any], options: EvaluateOptions
) -> Score:
    if options.na_prob_file is None:
        return task.score(examples, predictions)
    if task.na_scorer is None:
        raise UsageError(f"--na_prob_file: task {task.name!r} has no metric that reads it; squad_v2 has")
    odds = {id: _number(id, value, options.na_prob_file) for id, value in _read_object(options.na_prob_file).items()}
    return task.na_scorer(examples, predictions, odds, options.na_prob_thresh)


def _number(id: str, value: Any, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{path}: {id}: a number was expected, found {value!r}")
    return float(value)


def _read_object(path: Path) -> dict[str, Any]:
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


def _read_predictions(path: Path) -> dict[str, Any]:
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
