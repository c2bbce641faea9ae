"""The protocol over seeds: one run directory, one Record per seed, one leaderboard row."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from experiment.backend import choose_device, load_backend
from experiment.config import TrainOptions, UsageError
from experiment.files import write_json, write_text
from experiment.record import FILE_NAME, Record, read_record, sha256
from experiment.run import Job, describe, run_seed
from experiment.runlog import RunLog
from experiment.setup import (
    ModelSource,
    check_length,
    encode,
    first_targets,
    model_source,
    read_examples,
    resolve_recipe,
    task_of,
    trainable,
)
from experiment.table import leaderboard
from preprocess.types import Answer, Example
from tasks.core.task import Task

CONFIG_FILE = "config.yaml"
#: Options that may differ when a run is taken up again: they change no number.
_FREE = {"seeds", "overwrite_output_dir", "feature_cache_dir", "logging_steps", "output_dir"}


def train(options: TrainOptions) -> list[Record]:
    """Run all seeds that are not finished yet, and print the leaderboard row.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used, before anything is trained.
    """
    task = task_of(options)
    options = resolve_recipe(options, task, options.model_name_or_path)
    backend = load_backend(options.framework)
    source = model_source(options)
    check_length(options, source)
    device = choose_device(backend, options.device)
    _check_run_directory(options)
    data, reports = _read(options, task)
    # Nothing has been written up to here: a mistake in the options or files leaves no trace.
    _prepare_run_directory(options)
    # Whoever trains again with the written options must not delete the run by that.
    options = dataclasses.replace(options, overwrite_output_dir=False)
    log = RunLog(options.output_dir / "run.log")
    write_json(options.output_dir / "data_report.json", reports)
    for report in reports.values():
        for line in report["lines"]:
            log.line(line)
    encoded = {}
    for split, (examples, targets) in data.items():
        encoded[split] = encode(task, examples, targets, source.tokenizer, options)
        log.line(f"{split}: {describe(encoded[split].features)}")
    job = Job(
        options,
        task,
        source,
        backend,
        device,
        encoded["train"],
        encoded["dev"],
        encoded.get("test"),
        task.scorer(encoded["dev"].examples),
        {"config": to_plain(options), "hashes": _hashes(options, source)},
    )
    records = [_one_seed(job, seed, log) for seed in options.seeds]
    log.console.print()
    # All seeds of the directory: some may have been trained by other commands.
    table = leaderboard([options.output_dir])
    write_text(options.output_dir / "leaderboard.md", table)
    log.console.print(table, markup=False)
    return records


def _one_seed(job: Job, seed: int, log: RunLog) -> Record:
    directory = job.options.output_dir / f"seed_{seed}"
    if (directory / FILE_NAME).is_file():
        record = read_record(directory / FILE_NAME)
        if record.status == "finished":
            log.line(f"seed {seed}: finished before, kept")
            return record
        log.line(f"seed {seed}: {record.status} before, started anew")
        shutil.rmtree(directory)
    return run_seed(job, seed, directory, log)


Targeted = tuple[list[Example], Sequence[Answer | None]]


def _read(options: TrainOptions, task: Task) -> tuple[dict[str, Targeted], dict[str, dict[str, Any]]]:
    """Read all splits; training keeps the questions that have a target, and the report counts the others."""
    files = {"train": options.train_file, "dev": options.validation_file, "test": options.test_file}
    limits = {"train": options.max_train_samples, "dev": options.max_eval_samples}
    data: dict[str, Targeted] = {}
    reports = {}
    for split, path in files.items():
        if path is None:
            continue
        examples, report = read_examples(task, path, limits.get(split))
        lines = report.lines()
        reports[split] = {**report.to_json(), "lines": lines}
        if split == "train":
            found = trainable(task, examples)
            data[split] = found.examples, found.targets
            n_trained, n_without = len(examples) - len(found.without_target), len(found.without_target)
            reports[split]["without_target"] = found.without_target
            lines.append(f"  trained on: {n_trained}; not trained on for want of a located answer: {n_without}")
        else:
            data[split] = examples, first_targets(task, examples)
    return data, reports


def _hashes(options: TrainOptions, source: ModelSource) -> dict[str, str]:
    files = {"train": options.train_file, "dev": options.validation_file, "test": options.test_file}
    hashes = {f"{split}_file": sha256(path) for split, path in files.items() if path is not None}
    return {**hashes, "tokenizer": source.tokenizer.fingerprint, "checkpoint": source.checkpoint_sha256}


def to_plain(options: Any) -> dict[str, Any]:
    """Return options as YAML- and JSON-able values."""
    plain = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        plain[field.name] = (
            str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        )
    return plain


def _check_run_directory(options: TrainOptions) -> None:
    """Refuse a directory that holds something else, another run, or a finished one."""
    directory = options.output_dir
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UsageError(f"--output_dir {directory}: a file stands there; give another directory")
    config = directory / CONFIG_FILE
    if not config.is_file():
        if any(directory.iterdir()):
            raise UsageError(f"--output_dir {directory}: holds files that are no run; give an empty or new directory")
        return
    if options.overwrite_output_dir:
        return
    statuses = {seed: _status(directory, seed) for seed in options.seeds}
    if all(status == "finished" for status in statuses.values()):
        raise UsageError(
            f"--output_dir {directory}: holds a finished run; use --overwrite_output_dir or another directory"
        )
    old, new = yaml.safe_load(config.read_text(encoding="utf-8")), to_plain(options)
    different = sorted(name for name in new if name not in _FREE and old.get(name) != new[name])
    if different:
        found = ", ".join(f"{name} {old.get(name)!r} there, {new[name]!r} here" for name in different)
        raise UsageError(f"--output_dir {directory}: holds an unfinished run with other options ({found})")


def _status(directory: Path, seed: int) -> str:
    path = directory / f"seed_{seed}" / FILE_NAME
    return read_record(path).status if path.is_file() else "not started"


def _prepare_run_directory(options: TrainOptions) -> None:
    if options.overwrite_output_dir and options.output_dir.exists():
        shutil.rmtree(options.output_dir)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    plain = to_plain(options) | {"overwrite_output_dir": False}
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    write_text(options.output_dir / CONFIG_FILE, text)
