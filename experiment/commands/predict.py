"""Answers to the questions of a file, or to one question, from a fine-tuned model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiment.answering import about_cut_texts, prepare
from experiment.inputs.data import read_examples
from experiment.io.outputs import check_directory
from experiment.io.predictions import write_predictions
from experiment.io.terminal import Bars, terminal, warn
from experiment.options.flags import PredictOptions
from experiment.options.recipe import task_of
from experiment.reading.reader import Reader
from preprocess.base.errors import UsageError
from preprocess.text.offsets import is_unicode
from preprocess.types import Example
from tasks.core.prediction import Prediction
from tasks.core.task import Task

#: The texts that are typed, as a task's `inputs` name them.
_TEXTS = ("question", "context")


def predict(options: PredictOptions) -> dict[str, Prediction]:
    """Answer a file of questions, or one question, and print or write the answers.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
        OSError: if the answers can't be written where they belong; it says where they are kept.
    """
    _check(options)
    prepared = prepare(options)
    task, console = prepared.task, terminal()
    warn(prepared.notes)
    if options.test_file is not None:
        examples, report = read_examples(task, options.test_file)
        console.print("\n".join(report.lines()))
    else:
        examples = [Example("question", options.question or "", options.context or "")]
    with Reader(prepared) as reader, Bars(console) as bars:
        data = prepared.windows(examples, cached=options.test_file is not None)
        warn(about_cut_texts(data.features, prepared.recipe))
        predictions = reader.predict_windows(data, bars)
    if options.output_dir is not None:
        _write(task, examples, options.output_dir, predictions)
        console.print(f"{len(predictions)} answers written to {options.output_dir}")
    if options.test_file is None:
        console.print("\n".join(_lines(predictions["question"])))
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
    if options.test_file is not None and options.output_dir is None:
        raise UsageError("give --output_dir, the directory for the predictions")
    check_directory("--output_dir", options.output_dir, ("predictions.json", "nbest_predictions.json"))


def _write(task: Task, examples: Sequence[Example], directory: Path, predictions: Mapping[str, Prediction]) -> None:
    """Write the answers; where the disk has become full meanwhile, keep them elsewhere."""
    try:
        write_predictions(task, examples, directory, predictions)
    except OSError as error:
        kept = Path(tempfile.mkdtemp(prefix="predictions-"))
        write_predictions(task, examples, kept, predictions)
        raise OSError(f"--output_dir {directory}: {error}; the answers are kept in {kept}") from None


def _lines(best: Prediction) -> list[str]:
    """Return the answer, its place and its probability, as far as it has them; then what is more than its text."""
    chosen = next((candidate for candidate in best.nbest if candidate.text == best.text), None)
    place = f"  [{best.char_start}:{best.char_end}]" if best.kind == "span" or best.char_start >= 0 else ""
    sure = f"{' ' if place else '  '}p={chosen.probability:.3f}" if chosen is not None else ""
    line = f"{best.text or '(no answer)'}{place}{sure}"
    return [line] if best.value is None else [line, json.dumps(best.value, ensure_ascii=False)]
