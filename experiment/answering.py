"""A fine-tuned model, loaded once, that answers any number of questions; and what all that predict share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from experiment.backend import Backend, choose_device, load_backend
from experiment.inputs.data import Data, encode, first_targets
from experiment.inputs.model import ModelSource, check_limits, from_checkpoint
from experiment.inputs.settings import about_tokenizer, check_task, read_settings, recall
from experiment.io.terminal import Bars, terminal
from experiment.options.flags import PredictOptions
from experiment.options.recipe import Recipe, resolve_recipe, task_of
from preprocess.base.errors import UsageError
from preprocess.batch import collate, eval_batches, unpadded
from preprocess.types import Batch, Example, FeatureSet, Outputs
from pretrained_configs.checkpoint import Checkpoint, read_checkpoint
from tasks.core.prediction import Prediction
from tasks.core.task import Task


def outputs_of(
    backend: Backend, model: Any, data: Data, recipe: Recipe, bars: Bars, description: str
) -> Iterator[Outputs]:
    """Run the model over all windows, with a progress bar; column p of the values is position p of the window."""
    rows = eval_batches(data.features, recipe.per_device_eval_batch_size)
    batches: Iterator[Batch] = (collate(data.features, indices) for indices in bars.tracked(description, rows))
    for outputs in backend.predict(model, batches, precision=recipe.precision):
        yield unpadded(data.features, outputs)


@dataclass(frozen=True)
class Prepared:
    """All that answering needs but the weights: what can be wrong with options is known before they are read.

    Args:
        options: what was typed, else what the checkpoint was fine-tuned with.
        recipe: of windows and answers.
        task: with the choices made that the checkpoint was fine-tuned with.
        checkpoint: the fine-tuned one.
        source: its architecture and tokenizer.
        notes: lines about what differs from the fine-tuning, or may be wrong.
    """

    options: PredictOptions
    recipe: Recipe
    task: Task
    checkpoint: Checkpoint
    source: ModelSource
    notes: list[str]

    def load(self) -> Answerer:
        """Read the weights.

        Raises:
            UsageError, CheckpointError: for a device or weights that can't be used.
        """
        backend = load_backend(self.options.framework)
        device = choose_device(backend, self.options.device)
        model, _ = backend.load_model(self.checkpoint, self.task.problem.head, device=device, fresh_head=False)
        return Answerer(self, backend, model)


def prepare(options: PredictOptions) -> Prepared:
    """Find out what a checkpoint answers with.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
    """
    if options.model_name_or_path is None:
        raise UsageError("give the fine-tuned model with --model_name_or_path")
    return _prepare(options, read_checkpoint(options.model_name_or_path, options.hidden_act))


def _prepare(options: PredictOptions, checkpoint: Checkpoint) -> Prepared:
    settings = read_settings(checkpoint.directory)
    options, notes = recall(settings, options)
    task = task_of(options)
    check_task(settings, task, str(options.model_name_or_path))
    recipe = resolve_recipe(options, task, checkpoint.published)
    source = from_checkpoint(checkpoint, options)
    check_limits(recipe, source.name, source.config, source.published)
    notes = [*notes, *about_tokenizer(settings, source.tokenizer), *source.loaded_tokenizer.warnings]
    return Prepared(options, recipe, task, checkpoint, source, notes)


@dataclass(frozen=True)
class Answerer:
    """A fine-tuned model in memory.

    Args:
        prepared: what it answers with.
        backend: the framework.
        model: the backend's.
    """

    prepared: Prepared
    backend: Backend
    model: Any

    @classmethod
    def load(cls, checkpoint: str, task: str | None = None, **options: Any) -> Answerer:
        """Load a checkpoint of either framework.

        Args:
            checkpoint: directory, weights file, hub id or short name.
            task: name of the task; None for the one that the checkpoint was fine-tuned for here.
            **options: others of `predict` by name, such as framework="tensorflow", device="cuda:1" or bf16=True; what
                is left out is as in the fine-tuning.

        Raises:
            UsageError, DataError, CheckpointError: for options and files that can't be used.
        """
        fine_tuned = read_checkpoint(checkpoint, options.get("hidden_act"))
        if task is None:
            settings = read_settings(fine_tuned.directory)
            if settings is None:
                raise UsageError(f"{checkpoint}: does not say what task it was fine-tuned for; give one")
            task = settings.task
        return _prepare(PredictOptions(model_name_or_path=checkpoint, task=task, **options), fine_tuned).load()

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
        outputs = outputs_of(self.backend, self.model, data, prepared.recipe, bars, "windows")
        return prepared.task.problem.decode(data.examples, data.features, outputs, prepared.recipe.decode)


def about_cut_questions(features: FeatureSet, max_query_length: int) -> list[str]:
    """Return a line if questions were cut: what the model has not read may be what was asked."""
    n_cut, n = features.meta["counts"]["query_truncated"], features.meta["counts"]["n_examples"]
    if not n_cut:
        return []
    cut = "the question was cut" if n == 1 else f"{n_cut} of {n} questions were cut"
    return [f"{cut} to {max_query_length} tokens; --max_query_length raises that"]
