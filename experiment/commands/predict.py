"""Prediction with a fine-tuned model, and scoring of prediction files."""

from __future__ import annotations

from experiment.answering import outputs_of
from experiment.backend import choose_device, load_backend
from experiment.inputs.data import encode, first_targets, read_examples
from experiment.inputs.model import check_limits, model_source
from experiment.inputs.settings import read_settings
from experiment.io.predictions import write_predictions
from experiment.io.terminal import Bars, terminal
from experiment.options.flags import PredictOptions
from experiment.options.recipe import decode_options, resolve_recipe, task_of
from preprocess.base.errors import UsageError
from preprocess.text.offsets import is_unicode
from preprocess.types import Example
from tasks.core.prediction import Prediction


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
    model, _ = backend.load_model(source.config, task.problem.head, checkpoint, device=device, fresh_head=False)
    data = encode(task, examples, first_targets(task, examples), source.tokenizer, options)
    with Bars(console) as bars:
        outputs = outputs_of(backend, model, data, options, bars, "windows")
        predictions = task.problem.decode(data.examples, data.features, outputs, decode_options(options))
    if options.output_dir is not None:
        write_predictions(task, options.output_dir, predictions)
        console.print(f"{len(predictions)} answers written to {options.output_dir}")
    if one:
        best = predictions["question"]
        chosen = next((candidate for candidate in best.nbest if candidate.text == best.text), best.nbest[0])
        place = f"[{best.char_start}:{best.char_end}]"
        console.print(f"{best.text or '(no answer)'}  {place} p={chosen.probability:.3f}")
    return predictions
