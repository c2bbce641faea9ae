"""Prediction with a fine-tuned model, and scoring of prediction files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from experiment.backend import Backend, choose_device, load_backend
from experiment.config import EvaluateOptions, FeatureOptions, PredictOptions, UsageError
from experiment.files import write_json, write_text
from experiment.settings import read_settings
from experiment.setup import (
    Data,
    check_length,
    decode_options,
    encode,
    first_targets,
    logits_of,
    model_source,
    read_examples,
    resolve_recipe,
    task_of,
)
from preprocess.types import DataError, Example
from tasks.core.nbest import nbest_json
from tasks.core.task import DecodeOptions, Prediction, Score, Task


def predict_data(
    task: Task, backend: Backend, model: Any, data: Data, options: FeatureOptions, decode: DecodeOptions
) -> dict[str, Prediction]:
    """Answer all questions, with n-best lists."""
    return task.decode(data.examples, data.features, logits_of(backend, model, data, options), decode)


def write_predictions(directory: Path, predictions: Mapping[str, Prediction], suffix: str = "") -> None:
    """Write `predictions<suffix>.json` {id: text} and `nbest_predictions<suffix>.json` {id: [candidates]}."""
    write_json(directory / f"predictions{suffix}.json", {id: p.text for id, p in predictions.items()})
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
    if options.test_file is not None and options.output_dir is None:
        raise UsageError("give --output_dir, the directory for the predictions")
    task = task_of(options)
    options = resolve_recipe(options, task, checkpoint, read_settings(checkpoint, task))
    backend = load_backend(options.framework)
    source = model_source(options)
    check_length(options, source)
    console = Console(highlight=False, soft_wrap=True)
    if options.test_file is not None:
        examples, report = read_examples(task, options.test_file)
        for line in report.lines():
            console.print(line, markup=False)
    else:
        examples = [Example("question", options.question or "", options.context or "")]
    model = backend.build_model(source.config, task.head, device=choose_device(backend, options.device), seed=0)
    backend.load_weights(model, checkpoint, fresh_head=False)
    data = encode(task, examples, first_targets(task, examples), source.tokenizer, options)
    predictions = predict_data(task, backend, model, data, options, decode_options(options))
    if options.output_dir is not None:
        write_predictions(options.output_dir, predictions)
        if task.official is not None:
            answers = {id: prediction.text for id, prediction in predictions.items()}
            write_json(options.output_dir / "predictions_official.json", task.official(answers))
        console.print(f"{len(predictions)} answers written to {options.output_dir}", markup=False)
    if one:
        best = predictions["question"]
        console.print(
            f"{best.text}  [{best.char_start}:{best.char_end}] p={best.nbest[0].probability:.3f}", markup=False
        )
    return predictions


def evaluate(options: EvaluateOptions) -> Score:
    """Score a prediction file and print the values.

    Raises:
        DataError: if one of the files can't be used.
    """
    task = task_of(options)
    examples, _ = read_examples(task, options.data_file)
    predictions = _read_predictions(options.predictions)
    score = task.score(examples, predictions)
    if options.output is not None:
        write_score(options.output, task, score)
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(name) for name in (*score.values, "questions")) + 2
    for name, value in score.values.items():
        console.print(f"{name:<{width}}{value:8.3f}")
    console.print(f"{'questions':<{width}}{score.n:8d}\n{'missing':<{width}}{score.n_missing:8d}")
    n_unknown = len(predictions.keys() - {example.id for example in examples})
    if n_unknown:
        console.print(f"{n_unknown} predictions belong to no question and are not scored")
    return score


def _read_predictions(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    if isinstance(values, list) and all(isinstance(v, dict) and {"id", "answer"} <= v.keys() for v in values):
        values = {v["id"]: v["answer"] for v in values}  # the official form of CJRC and CoQA
    if not isinstance(values, dict):
        raise DataError(
            f"{path}: a JSON object {{question id: answer}} was expected, or a list of {{id, answer}}, found a "
            f"{type(values).__name__}"
        )
    nested = [id for id, answer in values.items() if isinstance(answer, dict | list) or answer is None]
    if nested:
        raise DataError(f"{path}: {len(nested)} answers are no strings, such as that of {nested[0]!r}: give texts")
    return values
