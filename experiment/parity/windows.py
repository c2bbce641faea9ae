"""Windows for a comparison: of a data file, or made up."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiment.inputs.data import encode, first_targets, read_examples
from experiment.inputs.heads import task_for
from experiment.inputs.methods import check_methods
from experiment.inputs.model import check_limits, from_checkpoint, from_scratch
from experiment.inputs.settings import Settings, about_tokenizer
from experiment.io.terminal import warn
from experiment.options.methods import MethodOptions
from experiment.options.optimisation import OptimizerOptions
from experiment.options.parity import ParityOptions
from experiment.options.recipe import OptimizerRecipe
from experiment.parity.answers import Answers
from experiment.parity.compare import TOLERANCES
from experiment.parity.observe import ParityJob
from preprocess.base.errors import UsageError
from preprocess.batch import collate, epoch_batches, eval_batches
from preprocess.types import NO_TARGET, Batch, HeadSpec
from pretrained_configs.checkpoint import Checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.locate import locate
from pretrained_configs.published import read_config
from tasks.core.task import Task

#: Length of random windows where none is asked for, in tokens.
_RANDOM_LENGTH = 128
#: Share of their tokens that may be answers, where a head asks which.
_ANSWERS = 0.7


def from_file(
    options: ParityOptions,
    recipe: OptimizerRecipe,
    task: Task,
    checkpoint: Checkpoint | None,
    settings: Settings | None,
    data_file: Path,
) -> tuple[ParityJob, Answers]:
    """Take windows and questions from the data file."""
    if checkpoint is not None:
        source = from_checkpoint(checkpoint, options)
    else:
        source = from_scratch(str(options.config_name), options)
    task = task_for(task, source.config, checkpoint)
    warn([*about_tokenizer(settings, source.tokenizer), *source.loaded_tokenizer.warnings])
    check_limits(recipe, source.name, source.config, source.published)
    examples, _ = read_examples(task, data_file, options.max_eval_samples)
    texts = task, examples, first_targets(task, examples), source.tokenizer
    data = encode(*texts, recipe, options.feature_cache_dir, template=source.template)
    size, seed = options.per_device_train_batch_size, options.seed
    together = task.problem.head.whole_groups
    orders = (epoch_batches(data.features, size, seed=seed, epoch=epoch, whole_groups=together) for epoch in count())
    steps = islice(chain.from_iterable(orders), options.steps)
    questions = eval_batches(data.features, recipe.per_device_eval_batch_size)
    job = _job(options, recipe, task, source.config, checkpoint, [collate(data.features, rows) for rows in steps])
    job = replace(job, eval_batches=[collate(data.features, rows) for rows in questions])
    return job, Answers(task, data, recipe.decode, TOLERANCES[recipe.precision])


def made_up(
    options: ParityOptions, recipe: OptimizerRecipe, task: Task, checkpoint: Checkpoint | None
) -> tuple[ParityJob, None]:
    """Make up windows; no tokenizer is needed."""
    if checkpoint is not None:
        config = checkpoint.config
    else:
        config = read_config(locate(str(options.config_name), weights=False).path, options.hidden_act)
    task = task_for(task, config, checkpoint)
    limit = config.family.usable_length(config)
    length = options.max_seq_length or min(_RANDOM_LENGTH, limit)
    if length > limit:
        raise UsageError(f"--max_seq_length {length} > max_position_embeddings {limit}; use at most {limit}")
    size = options.per_device_train_batch_size
    random = np.random.Generator(np.random.Philox(options.seed))
    batches = [random_batch(config, task.problem.head, (size, length), random) for _ in range(options.steps)]
    return _job(options, recipe, task, config, checkpoint, batches), None


def random_batch(config: ModelConfig, head: HeadSpec, shape: tuple[int, int], random: np.random.Generator) -> Batch:
    """Draw windows of random lengths with random ids and targets.

    Args:
        config: whose vocabulary to draw from.
        head: whose targets to draw.
        shape: windows, and the length L that they are padded to; they have L / 2 to L tokens.
        random: generator.
    """
    n, length = shape
    lengths = random.integers((length + 1) // 2, length, n, endpoint=True)
    column = np.arange(length)[None]
    mask = column < lengths[:, None]
    types = mask & (column >= lengths[:, None] // 4) & (config.type_vocab_size > 1)
    # An example has two options, the right one in one window and the other in two.
    group = np.arange(n) // 3 if head.whole_groups else np.arange(n)
    targets: dict[str, NDArray[np.integer]] = {}
    for outputs in head.projections.values():
        # The outputs of a projection in order, as a span's start and end.
        positions = np.sort(random.integers(0, lengths[:, None], (n, len(outputs))), axis=1)
        for i, output in enumerate(outputs):
            targets[output.name] = {
                "position": positions[:, i],
                "class": random.integers(NO_TARGET, output.size, n),
                "binary": positions[:, i] % 2,
                "tag": np.where(mask, random.integers(NO_TARGET, output.size, mask.shape), NO_TARGET),
                "choice": 1 - np.arange(n) % 3,
            }[output.loss]
    inputs = {
        "input_ids": np.where(mask, random.integers(0, config.vocab_size, mask.shape), 0),
        "attention_mask": mask,
        "token_type_ids": types,
    }
    if head.answer_mask:
        inputs["answer_mask"] = mask & (random.random(mask.shape) < _ANSWERS)
        for output in head.outputs:
            if output.loss == "position":
                inputs["answer_mask"][np.arange(n), targets[output.name]] = True
    columns = [{name: column.astype(np.int32) for name, column in part.items()} for part in (inputs, targets)]
    return Batch(np.arange(n, dtype=np.int32), group.astype(np.int32), columns[0], columns[1])


def _job(
    options: ParityOptions,
    recipe: OptimizerRecipe,
    task: Task,
    config: ModelConfig,
    checkpoint: Checkpoint | None,
    batches: list[Batch],
) -> ParityJob:
    options_of_steps = (*fields(OptimizerOptions), *fields(MethodOptions))
    trainer = {option.name: getattr(recipe, option.name) for option in options_of_steps}
    check_methods(recipe, str(options.model_name_or_path or options.config_name), config, task.problem.head)
    config = replace(config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return ParityJob(
        config=config,
        head=task.problem.head,
        checkpoint=replace(checkpoint, config=config) if checkpoint is not None else None,
        batches=batches,
        eval_batches=[],
        trainer={**trainer, "precision": recipe.precision, "seed": options.seed},
        device=options.device,
        seed=options.seed,
    )
