"""Answers to the questions of a file, or to one question, from a fine-tuned model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiment.answering import Prepared, about_cut_texts, find, prepare
from experiment.inputs.data import read_examples
from experiment.inputs.settings import read_settings, trained_task
from experiment.io.outputs import check_directory
from experiment.io.predictions import write_predictions, write_protocol
from experiment.io.terminal import Bars, terminal, warn
from experiment.options.flags import PredictOptions
from experiment.options.recipe import task_of
from experiment.reading.reader import Reader
from preprocess.base.errors import UsageError
from preprocess.text.offsets import is_unicode
from preprocess.types import Example
from tasks.core.confidence import ABSTAINED, Temperatures, abstaining, chosen_place, confidence_of
from tasks.core.prediction import Prediction
from tasks.core.problem import Gathers
from tasks.core.task import Task

#: The texts that are typed, as a task's `inputs` name them.
_TEXTS = ("question", "context")


def predict(options: PredictOptions) -> dict[str, Prediction]:
    """Answer a file of questions, or one question, and print or write the answers.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
        OSError: if the answers can't be written where they belong; it says where they are kept.
    """
    model = None
    if not options.task:
        model = find(options.model_name_or_path, options.hidden_act)
        name = trained_task(read_settings(model.directory), options.model_name_or_path)
        options = replace(options, task=name)
    _check(options)
    prepared = prepare(options, model)
    task, console = prepared.task, terminal()
    warn(prepared.notes)
    if options.min_confidence > 0 and prepared.temperature == 1:
        warn(["--min_confidence: the checkpoint is not calibrated; `calibrate` makes its confidence mean something"])
    if options.test_file is not None:
        examples, report = read_examples(task, options.test_file)
        console.print("\n".join(report.lines()))
    else:
        examples = [Example("question", options.question or "", options.context or "")]
    with Reader(prepared) as reader, Bars(console) as bars:
        data = prepared.windows(examples, cached=options.test_file is not None)
        warn(about_cut_texts(data.features, prepared.recipe))
        found = reader.predict_windows(data, bars)
    predictions = abstaining(found, options.min_confidence)
    if options.output_dir is not None:
        _write(task, examples, options.output_dir, predictions)
        if options.min_confidence > 0:
            write_protocol(options.output_dir, _selective(options, prepared, predictions))
        console.print(f"{len(predictions)} answers written to {options.output_dir}")
    if options.test_file is None:
        lines = _lines(found["question"], task)
        if predictions != found:
            lines[0] = f"(no answer: less sure than {options.min_confidence})  {lines[0]}"
        console.print("\n".join(lines))
    elif options.min_confidence > 0:
        n_abstained = sum(prediction.kind == ABSTAINED for prediction in predictions.values())
        console.print(
            f"{n_abstained} of {len(predictions)} answers were less sure than {options.min_confidence} and left empty"
        )
    return predictions


def _check(options: PredictOptions) -> None:
    """Refuse what is wrong whatever the model."""
    inputs = task_of(options).inputs
    given = {name for name in _TEXTS if getattr(options, name) is not None}
    asked = bool(given) and given == set(inputs)
    if asked == (options.test_file is not None) or (given and not asked):
        texts = f", or {' and '.join(f'--{name}' for name in inputs)}" if set(inputs) <= set(_TEXTS) else ""
        raise UsageError(f"give {'either ' if texts else ''}--test_file{texts}")
    if not (is_unicode(options.question or "") and is_unicode(options.context or "")):
        raise UsageError("--question and --context must be valid UTF-8")
    if options.min_confidence > 0:
        task = task_of(options)
        if isinstance(task.problem, Gathers) or not task.answers_with_text:
            raise UsageError(f"--min_confidence: task {task.name} has no empty answer to give instead; leave it out")
    if options.test_file is not None and options.output_dir is None:
        raise UsageError("give --output_dir, the directory for the predictions")
    check_directory("--output_dir", options.output_dir, ("predictions.json", "nbest_predictions.json"))


def _selective(options: PredictOptions, prepared: Prepared, predictions: Mapping[str, Prediction]) -> dict[str, Any]:
    """Return how answers were come by of which those that are not sure enough were left empty."""
    abstained = [id for id, prediction in predictions.items() if prediction.kind == ABSTAINED]
    at = prepared.temperature
    spans, null = (at.spans, {"null_temperature": at.null}) if isinstance(at, Temperatures) else (at, {})
    return {
        "protocol": f"answers less sure than {options.min_confidence} left empty",
        "task": prepared.task.name,
        "task_version": prepared.task.version,
        "min_confidence": options.min_confidence,
        "temperature": spans,
        **null,
        "n_questions": len(predictions),
        "n_abstained": len(abstained),
        "abstained": abstained,
    }


def _write(task: Task, examples: Sequence[Example], directory: Path, predictions: Mapping[str, Prediction]) -> None:
    """Write the answers; where the disk has become full meanwhile, keep them elsewhere."""
    try:
        write_predictions(task, examples, directory, predictions)
    except OSError as error:
        kept = Path(tempfile.mkdtemp(prefix="predictions-"))
        write_predictions(task, examples, kept, predictions)
        raise OSError(f"--output_dir {directory}: {error}; the answers are kept in {kept}") from None


def _lines(best: Prediction, task: Task) -> list[str]:
    """Return the answer, its place and its probability, as far as it has them; then what its text does not say."""
    place = f"  [{best.char_start}:{best.char_end}]" if best.kind == "span" or best.char_start >= 0 else ""
    sure = f"{' ' if place else '  '}p={confidence_of(best):.3f}" if chosen_place(best) is not None else ""
    line = f"{best.text or '(no answer)'}{place}{sure}"
    return (
        [line] if best.value is None or task.answers_with_text else [line, json.dumps(best.value, ensure_ascii=False)]
    )
