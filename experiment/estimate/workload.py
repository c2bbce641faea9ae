"""What a training run will compute, laid out without its weights and without a framework."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.estimate.hardware import forward_flops, training_flops
from experiment.inputs.augmentation import additions_of
from experiment.inputs.data import encode, first_targets, read_examples, trainable
from experiment.inputs.download import downloaded, how_to_get
from experiment.inputs.model import model_choice, template_of
from experiment.inputs.tokenizer import fitting_tokenizer
from experiment.options.flags import PlanOptions
from experiment.options.recipe import StepRecipe
from experiment.training.steps import Evaluated
from preprocess.base.errors import CheckpointError
from preprocess.batch import collate, epoch_batches, eval_batches
from preprocess.types import FeatureSet
from pretrained_configs import catalog
from pretrained_configs.config import ModelConfig
from pretrained_configs.locate import locate, published_of
from pretrained_configs.published import read_config
from tasks.core.task import Task


@dataclass(frozen=True)
class Architecture:
    """A model without its weights.

    Args:
        name: as given.
        config: the architecture.
        vocabulary: where its vocabulary is looked for: a directory, or a name that `locate` knows.
        published: what the catalogue knows of it, if it is in there.
    """

    name: str
    config: ModelConfig
    vocabulary: str | Path
    published: catalog.PublishedModel | None


def architecture(options: PlanOptions) -> Architecture:
    """Find an architecture: of a path in its config.json, of a published model in the catalogue, else on the hub.

    Raises:
        UsageError, CheckpointError: naming what is missing or can't be read.
    """
    name = model_choice(options)
    published = published_of(name) if options.config_name is None else None
    if published is not None:
        config = published.config
        if options.hidden_act is not None:
            config = dataclasses.replace(config, hidden_act=options.hidden_act)
        return Architecture(name, config, name, published)
    place = locate(name, weights=False)
    config = read_config(place.path if place.path.suffix == ".json" else place.directory, options.hidden_act)
    return Architecture(place.name, config, place.directory, None)


@dataclass(frozen=True)
class PlannedTask:
    """One task of a run that is planned.

    Args:
        task: the task.
        options: of this task alone.
        recipe: its windows.
    """

    task: Task
    options: PlanOptions
    recipe: StepRecipe


@dataclass(frozen=True)
class Work:
    """What there is to compute.

    Args:
        n_windows: per epoch.
        n_steps: per epoch.
        mean_length: tokens per window, padding included.
        real_tokens: share of those tokens that are no padding.
        epoch_flops: of one epoch: what the model needs, and what is computed again.
        n_evaluations: per seed.
        evaluation_flops: of one evaluation.
    """

    n_windows: int
    n_steps: int
    mean_length: float
    real_tokens: float
    epoch_flops: float
    n_evaluations: int
    evaluation_flops: float

    def seed_flops(self, n_epochs: float) -> float:
        """Return the FLOPs of one seed."""
        return n_epochs * self.epoch_flops + self.n_evaluations * self.evaluation_flops


def work(
    tasks: Sequence[PlannedTask],
    recipe: StepRecipe,
    model: Architecture,
    *,
    windows_per_step: int,
    windows_per_pass: int,
) -> Work | str:
    """Encode the files as `train` does and lay out the first epoch.

    Args:
        tasks: which files.
        recipe: of the run.
        model: the model.
        windows_per_step: of all devices together.
        windows_per_pass: of all devices together; they are padded to one length.

    Returns:
        the work; or in one line why it can't be known, and what to do about it.

    Raises:
        UsageError, DataError, CheckpointError: for files that were given and can't be used.
    """
    found = []
    for each in tasks:
        computed = _work_of(each, recipe, model, windows_per_step, windows_per_pass)
        if isinstance(computed, str):
            return computed if len(tasks) == 1 else f"{each.task.name}: {computed}"
        found.append(computed)
    return found[0] if len(found) == 1 else _in_turns(found, recipe)


def _in_turns(found: Sequence[Work], recipe: StepRecipe) -> Work:
    """Return the work of an epoch in which tasks have their turns."""
    turns = recipe.sampling.turns([each.n_steps for each in found])
    shares = [n / each.n_steps for n, each in zip(turns, found, strict=True)]
    n_windows = [share * each.n_windows for share, each in zip(shares, found, strict=True)]
    n_tokens = [n * each.mean_length for n, each in zip(n_windows, found, strict=True)]
    evaluated = all(each.n_evaluations for each in found)
    return Work(
        n_windows=round(sum(n_windows)),
        n_steps=sum(turns),
        mean_length=sum(n_tokens) / sum(n_windows),
        real_tokens=sum(n * each.real_tokens for n, each in zip(n_tokens, found, strict=True)) / sum(n_tokens),
        epoch_flops=sum(share * each.epoch_flops for share, each in zip(shares, found, strict=True)),
        n_evaluations=len(Evaluated(sum(turns), recipe.num_train_epochs, recipe.eval_epochs)) if evaluated else 0,
        evaluation_flops=sum(each.evaluation_flops for each in found),
    )


def _work_of(
    planned: PlannedTask, run: StepRecipe, model: Architecture, windows_per_step: int, windows_per_pass: int
) -> Work | str:
    options, recipe, task, config = planned.options, planned.recipe, planned.task, model.config
    train_file = options.train_file or downloaded(task, "train", options.data_dir)
    dev_file = options.validation_file or downloaded(task, "dev", options.data_dir)
    assert not isinstance(train_file, Mapping) and not isinstance(dev_file, Mapping), "of one task"
    if train_file is None:
        return how_to_get(task, "train", "train_file", options.data_dir)
    vocabulary = options.tokenizer_name or model.vocabulary
    try:
        tokenizer = fitting_tokenizer(vocabulary, options.do_lower_case, config).tokenizer
    except CheckpointError as error:
        if options.tokenizer_name is not None:
            raise
        return f"{error}; or give its vocabulary with --tokenizer_name"
    cache, template = options.feature_cache_dir, template_of(config, tokenizer)
    examples, report = read_examples(task, train_file, options.max_train_samples)
    if (additions := additions_of(options, task)) is not None:
        examples = additions.to(task, examples).examples
    training = trainable(task, examples, report)
    train = encode(task, training.examples, training.targets, tokenizer, recipe, cache, template=template).features
    together = task.problem.head.whole_groups
    steps = epoch_batches(
        train,
        windows_per_step,
        seed=run.seeds[0],
        epoch=0,
        group_by_length=run.group_by_length,
        whole_groups=together,
    )
    shapes = [
        _shape(train, rows[i : i + windows_per_pass]) for rows in steps for i in range(0, len(rows), windows_per_pass)
    ]
    n_tokens = sum(n * length for n, length in shapes)
    again = run.gradient_checkpointing / config.family.n_layers(config)
    evaluated = []
    if dev_file is not None:
        examples, _ = read_examples(task, dev_file)
        targets = first_targets(task, examples)
        dev = encode(task, examples, targets, tokenizer, recipe, cache, template=template).features
        evaluated = [_shape(dev, rows) for rows in eval_batches(dev, recipe.per_device_eval_batch_size)]
    followed = Evaluated(len(steps), run.num_train_epochs, run.eval_epochs)
    return Work(
        n_windows=len(train),
        n_steps=len(steps),
        mean_length=n_tokens / len(train),
        real_tokens=float(train.lengths.sum()) / n_tokens,
        epoch_flops=recipe.n_passes
        * sum(n * (training_flops(config, s) + again * forward_flops(config, s)) for n, s in shapes),
        n_evaluations=len(followed) if evaluated else 0,
        evaluation_flops=sum(n * forward_flops(config, s) for n, s in evaluated),
    )


def _shape(features: FeatureSet, rows: Any) -> tuple[int, int]:
    """Return windows and tokens per window of a batch."""
    n, length = collate(features, rows).inputs["input_ids"].shape
    return n, length
