"""What a fine-tuned model answers with, known before its weights are read; and what all that predict share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from experiment.backend import Backend, Predictor
from experiment.export.bundle import Bundle, exported_source, read_bundle
from experiment.export.forms import OnnxForm
from experiment.export.runtimes import RUNTIMES
from experiment.inputs.data import Data, encode, first_targets
from experiment.inputs.heads import exported_task, task_for
from experiment.inputs.model import ModelSource, check_limits, from_checkpoint
from experiment.inputs.settings import about_tokenizer, check_task, read_settings, recall, temperature_of
from experiment.inputs.transfer import answering_head
from experiment.io.terminal import Bars
from experiment.options.flags import PredictOptions
from experiment.options.joint import task_name
from experiment.options.recipe import Recipe, resolve_recipe, task_of
from experiment.training.finished import read_finetuned
from preprocess.base.errors import UsageError
from preprocess.batch import eval_batches, unpadded
from preprocess.types import Batch, Example, FeatureSet, Outputs
from pretrained_configs.checkpoint import Checkpoint
from tasks.core.confidence import Temperature
from tasks.core.joint import SharedHead
from tasks.core.prediction import Prediction
from tasks.core.task import Task

#: What a runtime computes in, in words.
_FORMATS = {("fp32",): "float32", ("fp32", "bf16"): "float32 or bfloat16"}


def outputs_of(
    predict: Predictor,
    data: Data,
    recipe: Recipe,
    bars: Bars,
    description: str,
    head: SharedHead | None = None,
    task: str = "",
) -> Iterator[Outputs]:
    """Run a model over all windows, with a progress bar; column p of the values is position p of the window.

    Args:
        predict: runs it.
        data: whose windows.
        recipe: how many at a time.
        bars: get one.
        description: of that.
        head: of a model that answers for several tasks.
        task: then, that of the windows.
    """
    rows = eval_batches(data.features, recipe.per_device_eval_batch_size)
    batches: Iterator[Batch] = (data.batch(indices) for indices in bars.tracked(description, rows))
    if head is not None:
        batches = (head.batch(task, batch) for batch in batches)
    for outputs in predict(batches):
        yield unpadded(data.features, outputs if head is None else head.outputs(task, outputs))


def predictor_of(backend: Backend, model: Any, recipe: Recipe) -> Predictor:
    """Return what a backend's model predicts with, in the precision of a recipe."""
    return partial(backend.predict, model, precision=recipe.precision)


@dataclass(frozen=True)
class Prepared:
    """All that answering needs but the weights: what can be wrong with options is known before they are read.

    Args:
        options: what was typed, else what the checkpoint was fine-tuned with.
        recipe: of windows and answers.
        task: with the choices made that the checkpoint was fine-tuned with.
        model: the fine-tuned checkpoint, or what was exported of one.
        source: its architecture and tokenizer.
        notes: lines about what differs from the fine-tuning, or may be wrong.
        temperature: that the checkpoint was calibrated to for the task; 1 if it was not.
    """

    options: PredictOptions
    recipe: Recipe
    task: Task
    model: Checkpoint | Bundle
    source: ModelSource
    notes: list[str]
    temperature: Temperature = 1.0

    def windows(self, examples: Sequence[Example], *, cached: bool) -> Data:
        """Return the windows of questions, through the cache of features if so wanted."""
        targets = first_targets(self.task, examples)
        cache = self.options.feature_cache_dir if cached else None
        texts = self.task, list(examples), targets, self.source.tokenizer
        return encode(*texts, self.recipe, cache, template=self.source.template)

    def decode(self, data: Data, outputs: Iterable[Outputs]) -> dict[str, Prediction]:
        """Return the answers to the questions of windows, by question id, given what the model says of these."""
        return self.task.problem.decode(data.examples, data.features, outputs, self.recipe.decode)


def prepare(options: PredictOptions, model: Checkpoint | Bundle | None = None) -> Prepared:
    """Find out what a fine-tuned model answers with.

    Args:
        options: what was typed.
        model: the one that they name, where it has been found already.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
    """
    model = model or find(options.model_name_or_path, options.hidden_act, task_name(options))
    settings = read_settings(model.directory, task_name(options))
    exported = isinstance(model, Bundle) or options.framework in RUNTIMES
    if exported:
        _check_exported(options, model)
    if isinstance(model, Bundle) and options.tokenizer_name is None and options.do_lower_case is None:
        # Its tokenizer reads letters as when it was exported.
        options = replace(options, do_lower_case=model.do_lower_case)
    # What was exported computes in float32 unless told otherwise: nobody has to hear that the training did not.
    options, notes = recall(settings, options, but=("bf16",) if exported else ())
    if isinstance(model, Checkpoint):
        model = answering_head(model, settings)
    fitted = partial(_fitted, model)
    task = fitted(task_of(options))
    check_task(settings, task, str(options.model_name_or_path), fitted)
    recipe = resolve_recipe(options, task, model.published)
    source = exported_source(model, options) if isinstance(model, Bundle) else from_checkpoint(model, options)
    check_limits(recipe, source.name, source.config, source.published)
    notes = [*notes, *about_tokenizer(settings, source.tokenizer), *source.loaded_tokenizer.warnings]
    return Prepared(options, recipe, task, model, source, notes, temperature_of(settings, task))


def _fitted(model: Checkpoint | Bundle, task: Task) -> Task:
    """Return a task with the problem that a model answers, which its weights show, or the outputs of its graph."""
    if isinstance(model, Bundle):
        return exported_task(task, model.config, model.outputs)
    return task_for(task, model.config, model)


def find(name: str, hidden_act: str | None, task: str | None = None) -> Checkpoint | Bundle:
    """Find what a name stands for: an exported model, the best checkpoint of a run, or any other checkpoint.

    A run of several tasks has a best one for each; see `read_finetuned`.

    Raises:
        UsageError, CheckpointError: if there is none, or it can't be used.
    """
    return read_bundle(name) or read_finetuned(name, hidden_act, task)


def _check_exported(options: PredictOptions, model: Checkpoint | Bundle) -> None:
    """Refuse what an exported model has no choice of."""
    name: str = options.framework
    if name not in RUNTIMES and isinstance(model, Bundle) and isinstance(model.form, OnnxForm):
        name = model.runtime
    runtime = RUNTIMES.get(name)
    precisions = runtime.precisions if runtime is not None else ("fp32",)
    free = {"device": options.device in ("auto", "cpu")}
    free |= {name: name in precisions or not getattr(options, name) for name in ("bf16", "fp16")}
    if isinstance(model, Bundle):
        if runtime is not None and not isinstance(model.form, OnnxForm):
            raise UsageError(f"--framework {options.framework}: {model.name} is a {model.form.title}; leave it out")
        free["hidden_act"] = options.hidden_act is None
        computes = f"{model.name} is an exported model, which computes as it was exported, on the CPU and in float32"
        remedy = "give the checkpoint"
    else:
        computes = f"--framework {options.framework} computes on the CPU and in {_FORMATS[precisions]}"
        remedy = "another --framework"
    for flag, allowed in free.items():
        if not allowed:
            raise UsageError(f"--{flag}: {computes}; leave it out, or {remedy}")


def about_cut_texts(features: FeatureSet, recipe: Recipe) -> list[str]:
    """Return a line for questions that were cut, and one for texts: what the model has not read may have decided."""
    counts, n = features.meta["counts"], features.meta["counts"]["n_examples"]
    lines = []
    for what, name, flag in (
        ("question", "query_truncated", "max_query_length"),
        ("text", "context_truncated", "max_seq_length"),
    ):
        if n_cut := counts.get(name, 0):
            cut = f"the {what} was cut" if n == 1 else f"{n_cut} of {n} {what}s were cut"
            lines.append(f"{cut} to {getattr(recipe, flag)} tokens; --{flag} raises that")
    return lines
