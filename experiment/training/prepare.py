"""Everything before the first file is written: options, model, tokenizer and data, each checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiment.backend import Backend, choose_device, load_backend
from experiment.estimate.hardware import bf16_is_slow, host_memory
from experiment.estimate.memory import check_host_memory
from experiment.inputs.data import encode
from experiment.inputs.download import data_file, how_to_get
from experiment.inputs.heads import task_for
from experiment.inputs.methods import check_methods
from experiment.inputs.model import ModelSource, check_limits, model_source
from experiment.inputs.splits import read_splits
from experiment.io.trackers import trackers_of
from experiment.options.flags import PretrainOptions, TrainOptions
from experiment.options.recipe import TrainRecipe, resolve_recipe, task_of
from experiment.training.build import trainer_spec
from experiment.training.mixture import Source
from experiment.training.setup import RunSetup
from preprocess.base.errors import UsageError
from tasks.core.task import Task


def prepare(options: TrainOptions) -> tuple[RunSetup, list[str], dict[str, Any]]:
    """Do all that can fail for a mistake in options or files; returns the setup, what to print, and the reports."""
    trackers_of(options.report_to)
    options, task, source, recipe = resolved(options)
    backend, device, lines = ready(options, recipe, task, source)
    splits = read_splits(task, *files_of(options))
    reports = {name: split.report for name, split in splits.items()}
    lines += [line for report in reports.values() for line in report["lines"]]
    encoded = {}
    for name, split in splits.items():
        texts = task, split.examples, split.targets, source.tokenizer
        encoded[name] = encode(*texts, recipe, options.feature_cache_dir, template=source.template)
        counts = encoded[name].features.meta["counts"]
        reports[name]["encoding"] = counts
        lines.append(f"{name}: " + ", ".join(f"{what} {value}" for what, value in counts.items()))
    setup = RunSetup(
        recipe,
        task,
        source,
        backend,
        backend.Group.current(),
        device,
        backend.n_devices(device),
        (Source(task, encoded["train"]),),
        encoded["dev"],
        encoded.get("test"),
        {name: split.scorer for name, split in splits.items() if split.scorer is not None},
        {"config": recipe.config, "hashes": hashes_of(reports, source)},
    )
    return setup, lines, reports


def ready(
    options: TrainOptions | PretrainOptions, recipe: TrainRecipe, task: Task, source: ModelSource
) -> tuple[Backend, str, list[str]]:
    """Find out whether a framework can train a model here; returns it, the device, and what to print.

    Raises:
        UsageError, CheckpointError: for what it, its device or its memory can't do.
    """
    backend = load_backend(options.framework)
    backend.allow_tf32(options.tf32)
    device = choose_device(backend, options.device)
    backend.check_trainer(trainer_spec(recipe), device)
    lines = [source.loaded_tokenizer.casing, *(f"warning: {line}" for line in source.loaded_tokenizer.warnings)]
    if device == "cpu" and recipe.precision == "bf16" and (why := bf16_is_slow()) is not None:
        lines.append(f"warning: {why}")
    if source.checkpoint is not None:
        lines += backend.check_weights(source.checkpoint, task.problem.head, fresh_head=True).lines()
    else:
        backend.outline(source.config, task.problem.head)
    if device == "cpu":
        check_host_memory(source.config, task.problem.head, host_memory())
    return backend, device, lines


def resolved(options: TrainOptions) -> tuple[TrainOptions, Task, ModelSource, TrainRecipe]:
    """Find what options stand for: the options with all files in them, the task, the model and the recipe.

    Raises:
        UsageError, DataError, CheckpointError: for what is missing or does not fit together.
    """
    task = task_of(options)
    source = model_source(options)
    task = task_for(task, source.config, source.checkpoint)
    options = _with_downloaded(options, task)
    recipe = resolve_recipe(options, task, source.published)
    check_limits(recipe, source.name, source.config, source.published)
    check_methods(recipe, source.name, source.config, task.problem.head)
    return options, task, source, recipe


def files_of(options: TrainOptions) -> tuple[dict[str, Path | None], dict[str, int | None]]:
    """Return the files of the splits, and how many questions are used of each."""
    files = {"train": options.train_file, "dev": options.validation_file, "test": options.test_file}
    return files, {"train": options.max_train_samples, "dev": options.max_eval_samples}


def _with_downloaded(options: TrainOptions, task: Task) -> TrainOptions:
    """Fill in the data files that were left out by what `download` fetched."""

    def file_of(flag: str, given: Path | None, split: str) -> Path:
        path = given or data_file(task, split, options.data_dir)
        if path is None:
            raise UsageError(how_to_get(task, split, flag, options.data_dir))
        return path

    train_file = file_of("train_file", options.train_file, "train")
    validation_file = file_of("validation_file", options.validation_file, "dev")
    return dataclasses.replace(options, train_file=train_file, validation_file=validation_file)


def hashes_of(reports: Mapping[str, Mapping[str, Any]], source: ModelSource) -> dict[str, str]:
    """Return the hashes that a Record holds: of the files, by the reports on them, and of the model."""
    hashes = {f"{split}_file": report["sha256"] for split, report in reports.items()}
    architecture = json.dumps(source.config.architecture, sort_keys=True)
    return {
        **hashes,
        "tokenizer": source.tokenizer.fingerprint,
        "checkpoint": source.checkpoint_sha256,
        "architecture": hashlib.sha256(architecture.encode()).hexdigest(),
    }
