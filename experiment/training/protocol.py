"""The protocol over seeds: one run directory, one Record per seed, one leaderboard row."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiment.backend import ONLY_IN, by_first, choose_device, load_backend
from experiment.inputs.data import encode
from experiment.inputs.download import data_file, how_to_get
from experiment.inputs.model import ModelSource, check_limits, model_source
from experiment.inputs.splits import read_splits
from experiment.options.flags import TrainOptions
from experiment.options.recipe import resolve_recipe, task_of
from experiment.report.table import leaderboard
from experiment.training import rundir
from experiment.training.checkpoints import Checkpoints
from experiment.training.job import Job
from experiment.training.record import FILE_NAME, Record, read_record
from experiment.training.rundir import BEST
from experiment.training.runlog import RunLog
from experiment.training.seed import run_seed
from preprocess.base.errors import UsageError
from preprocess.base.files import write_json, write_text
from tasks.core.task import Task


def train(options: TrainOptions) -> list[Record]:
    """Run all seeds that are not finished yet, and print the leaderboard row.

    Several processes (torchrun) do all of it together, and the first one alone writes and prints.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used, before anything is trained
            or any file of an older run is touched.
    """
    job, lines, reports = _prepare(options)
    directory = job.options.output_dir

    def begin() -> None:
        rundir.check(job.options, job.record_fields["hashes"], job.n_devices)
        rundir.prepare(job.options)
        write_json(directory / "data_report.json", reports)

    by_first(job.group, begin)
    log = RunLog(directory / "run.log" if job.group.rank == 0 else None)
    for line in lines:
        log.line(line)
    with log.bars:
        records = [_one_seed(job, seed, log) for seed in job.options.seeds]
    if job.group.rank == 0:
        log.console.print()
        # All seeds of the directory: some may have been trained by other commands.
        table = leaderboard([directory])
        write_text(directory / "leaderboard.md", table)
        log.console.print(table)
    return records


def _prepare(options: TrainOptions) -> tuple[Job, list[str], dict[str, Any]]:
    """Do all that can fail for a mistake in options or files; returns the job, what to print, and the reports."""
    task = task_of(options)
    source = model_source(options)
    options = _with_downloaded(options, task)
    recipe = resolve_recipe(options, task, source.published)
    backend = load_backend(options.framework)
    group = backend.Group.current()
    backend.allow_tf32(options.tf32)
    check_limits(recipe, source.name, source.config, source.published)
    device = choose_device(backend, options.device)
    _check_step(options, group.size, backend.n_devices(device))
    lines = [source.found.casing, *(f"warning: {line}" for line in source.found.warnings)]
    if source.checkpoint is not None:
        lines += backend.check_weights(source.checkpoint, task.problem.head, fresh_head=True).lines()
    files = {"train": options.train_file, "dev": options.validation_file, "test": options.test_file}
    splits = read_splits(task, files, {"train": options.max_train_samples, "dev": options.max_eval_samples})
    reports = {name: split.report for name, split in splits.items()}
    lines += [line for report in reports.values() for line in report["lines"]]
    encoded = {}
    for name, split in splits.items():
        encoded[name] = encode(
            task, split.examples, split.targets, source.tokenizer, recipe, options.feature_cache_dir
        )
        counts = encoded[name].features.meta["counts"]
        lines.append(f"{name}: " + ", ".join(f"{what} {value}" for what, value in counts.items()))
    job = Job(
        recipe,
        task,
        source,
        backend,
        group,
        device,
        backend.n_devices(device),
        encoded["train"],
        encoded["dev"],
        encoded.get("test"),
        {name: split.scorer for name, split in splits.items() if split.scorer is not None},
        {"config": recipe.config, "hashes": _hashes(reports, source)},
    )
    return job, lines, reports


def _one_seed(job: Job, seed: int, log: RunLog) -> Record:
    directory = job.options.output_dir / f"seed_{seed}"
    checkpoints = Checkpoints(directory, BEST, job.options.save_total_limit, log.line)
    with contextlib.ExitStack() as held:

        def take_up() -> tuple[Record | None, dict[str, Any] | None]:
            """Return the Record of a finished seed, or else the state to go on from, if there is one."""
            directory.mkdir(exist_ok=True)
            held.enter_context(rundir.lock(directory, "give this one other --seeds"))
            status = rundir.status(job.options.output_dir, seed)
            if status in ("finished", "not started"):
                checkpoints.remove()  # a process was killed before it could
            if status == "finished":
                log.line(f"seed {seed}: finished before, kept")
                return read_record(directory / FILE_NAME), None
            saved = checkpoints.load()
            if saved is not None:
                rundir.tidy(directory)
            elif status != "not started":
                log.line(f"seed {seed}: {status} before, started anew")
                rundir.clear(directory)
            return None, saved

        finished, saved = by_first(job.group, take_up)
        return finished or run_seed(job, seed, directory, log, checkpoints, saved)


def _check_step(options: TrainOptions, n_processes: int, n_devices: int) -> None:
    """Refuse what the framework, or so many processes or devices, can't do."""
    for name, framework in ONLY_IN.items():
        if getattr(options, name) and options.framework != framework:
            raise UsageError(f"--{name} is for --framework {framework}; leave it out")
    if options.optim == "adamw8bit" and options.framework != "pytorch":
        raise UsageError("--optim adamw8bit is for --framework pytorch; use adamw")
    if options.optim == "adamw8bit" and find_spec("bitsandbytes") is None:
        raise UsageError("--optim adamw8bit: no bitsandbytes here; pip install -e '.[8bit]' installs it")
    if options.framework == "tensorflow" and n_devices > 1:
        # A replica that gives up leaves the others waiting for its gradients; XLA has no sum over replicas.
        for name in ("auto_find_batch_size", "jit_compile"):
            if getattr(options, name):
                raise UsageError(f"--{name} is for a single device in TensorFlow, here are {n_devices}; leave it out")
    if options.fsdp and n_processes == 1:
        raise UsageError("--fsdp divides the model among several processes; start them with torchrun")
    if options.fsdp and (options.auto_find_batch_size or options.optim == "adamw8bit"):
        raise UsageError("--fsdp goes neither with --auto_find_batch_size nor with --optim adamw8bit; leave one out")


def _with_downloaded(options: TrainOptions, task: Task) -> TrainOptions:
    """Fill in the data files that were left out by what `download` fetched."""

    def found(flag: str, given: Path | None, split: str) -> Path:
        path = given or data_file(task, split, options.data_dir)
        if path is None:
            raise UsageError(how_to_get(task, split, flag, options.data_dir))
        return path

    train_file = found("train_file", options.train_file, "train")
    validation_file = found("validation_file", options.validation_file, "dev")
    return dataclasses.replace(options, train_file=train_file, validation_file=validation_file)


def _hashes(reports: Mapping[str, Mapping[str, Any]], source: ModelSource) -> dict[str, str]:
    hashes = {f"{split}_file": report["sha256"] for split, report in reports.items()}
    architecture = json.dumps(dataclasses.asdict(source.config), sort_keys=True)
    return {
        **hashes,
        "tokenizer": source.tokenizer.fingerprint,
        "checkpoint": source.checkpoint_sha256,
        "architecture": hashlib.sha256(architecture.encode()).hexdigest(),
    }
