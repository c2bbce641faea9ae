"""A fine-tuned model, loaded once, that answers any number of questions; and what all that predict share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from experiment.backend import Backend, Predictor, choose_device, load_backend
from experiment.export.bundle import Bundle, exported_source, read_bundle
from experiment.inputs.data import Data, encode, first_targets
from experiment.inputs.heads import task_for
from experiment.inputs.model import ModelSource, check_limits, from_checkpoint
from experiment.inputs.settings import about_tokenizer, check_task, read_settings, recall
from experiment.io.terminal import Bars, terminal
from experiment.options.flags import PredictOptions
from experiment.options.recipe import Recipe, resolve_recipe, task_of
from preprocess.base.errors import UsageError
from preprocess.batch import eval_batches, unpadded
from preprocess.types import Batch, Example, FeatureSet, Outputs
from pretrained_configs.checkpoint import Checkpoint, read_checkpoint
from tasks.core.prediction import Prediction
from tasks.core.task import Task


def outputs_of(predict: Predictor, data: Data, recipe: Recipe, bars: Bars, description: str) -> Iterator[Outputs]:
    """Run a model over all windows, with a progress bar; column p of the values is position p of the window."""
    rows = eval_batches(data.features, recipe.per_device_eval_batch_size)
    batches: Iterator[Batch] = (data.batch(indices) for indices in bars.tracked(description, rows))
    for outputs in predict(batches):
        yield unpadded(data.features, outputs)


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
    """

    options: PredictOptions
    recipe: Recipe
    task: Task
    model: Checkpoint | Bundle
    source: ModelSource
    notes: list[str]

    def load(self) -> Answerer:
        """Read the weights.

        Raises:
            UsageError, CheckpointError: for a device or weights that can't be used.
        """
        if isinstance(self.model, Bundle):
            return Answerer(self, self.model.predictor())
        backend = load_backend(self.options.framework)
        device = choose_device(backend, self.options.device)
        model, _ = backend.load_model(self.model, self.task.problem.head, device=device, fresh_head=False)
        return Answerer(self, predictor_of(backend, model, self.recipe))


def prepare(options: PredictOptions, model: Checkpoint | Bundle | None = None) -> Prepared:
    """Find out what a fine-tuned model answers with.

    Args:
        options: what was typed.
        model: the one that they name, where it has been found already.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
    """
    model = model or _find(options.model_name_or_path, options.hidden_act)
    settings = read_settings(model.directory)
    if isinstance(model, Bundle):
        options = _for_bundle(options, model)
    # What was exported computes in float32: there is no precision to be had as in the training.
    options, notes = recall(settings, options, but=("bf16",) if isinstance(model, Bundle) else ())
    fitted = partial(_fitted, model)
    task = fitted(task_of(options))
    check_task(settings, task, str(options.model_name_or_path), fitted)
    recipe = resolve_recipe(options, task, model.published)
    source = exported_source(model, options) if isinstance(model, Bundle) else from_checkpoint(model, options)
    check_limits(recipe, source.name, source.config, source.published)
    notes = [*notes, *about_tokenizer(settings, source.tokenizer), *source.loaded_tokenizer.warnings]
    return Prepared(options, recipe, task, model, source, notes)


def _fitted(model: Checkpoint | Bundle, task: Task) -> Task:
    """Return a task with the problem that a model answers: what was exported has the head of the task's own."""
    return task if isinstance(model, Bundle) else task_for(task, model.config, model)


def _find(name: str, hidden_act: str | None) -> Checkpoint | Bundle:
    return read_bundle(name) or read_checkpoint(name, hidden_act)


def _for_bundle(options: PredictOptions, bundle: Bundle) -> PredictOptions:
    """Refuse what an exported model has no choice of, and let its tokenizer read letters as when it was exported."""
    computed = {"device": options.device in ("auto", "cpu"), "bf16": not options.bf16, "fp16": not options.fp16}
    for name, possible in {**computed, "hidden_act": options.hidden_act is None}.items():
        if not possible:
            raise UsageError(
                f"--{name}: {bundle.name} is an exported model, which computes as it was exported, on the CPU and in "
                "float32; leave it out, or give the checkpoint"
            )
    if options.tokenizer_name is None and options.do_lower_case is None:
        return replace(options, do_lower_case=bundle.do_lower_case)
    return options


@dataclass(frozen=True)
class Answerer:
    """A fine-tuned model in memory.

    Args:
        prepared: what it answers with.
        predict: runs it.
    """

    prepared: Prepared
    predict: Predictor

    @classmethod
    def load(cls, checkpoint: str, task: str | None = None, **options: Any) -> Answerer:
        """Load a checkpoint of either framework, or an exported model.

        Args:
            checkpoint: directory, weights file, hub id or short name.
            task: name of the task; None for the one that the checkpoint was fine-tuned for here.
            **options: others of `predict` by name, such as framework="tensorflow", device="cuda:1" or bf16=True; what
                is left out is as in the fine-tuning.

        Raises:
            UsageError, DataError, CheckpointError: for options and files that can't be used.
        """
        fine_tuned = _find(checkpoint, options.get("hidden_act"))
        if task is None:
            settings = read_settings(fine_tuned.directory)
            if settings is None:
                raise UsageError(f"{checkpoint}: does not say what task it was fine-tuned for; give one")
            task = settings.task
        return prepare(PredictOptions(model_name_or_path=checkpoint, task=task, **options), fine_tuned).load()

    def answer(self, examples: Sequence[Example]) -> dict[str, Prediction]:
        """Return the answers, with their n-best lists, by question id; nothing is written or printed.

        Args:
            examples: questions, whose ids differ.
        """
        return self.answer_windows(self.windows(examples, cached=False)) if examples else {}

    def windows(self, examples: Sequence[Example], *, cached: bool) -> Data:
        """Return the windows of questions, through the cache of features if so wanted."""
        prepared = self.prepared
        targets = first_targets(prepared.task, examples)
        cache = prepared.options.feature_cache_dir if cached else None
        texts = prepared.task, list(examples), targets, prepared.source.tokenizer
        return encode(*texts, prepared.recipe, cache, template=prepared.source.template)

    def answer_windows(self, data: Data, bars: Bars | None = None) -> dict[str, Prediction]:
        """Return the answers to the questions of windows, by question id."""
        prepared = self.prepared
        bars = bars or Bars(terminal(quiet=True))
        outputs = outputs_of(self.predict, data, prepared.recipe, bars, "windows")
        return prepared.task.problem.decode(data.examples, data.features, outputs, prepared.recipe.decode)


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
