"""Everything before the first file is written: options, model, tokenizer and data, each checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiment.backend import Backend, Group, by_first, choose_device, load_backend
from experiment.estimate.hardware import bf16_is_slow, host_memory
from experiment.estimate.memory import check_host_memory
from experiment.inputs.augmentation import additions_of
from experiment.inputs.data import Data, encode
from experiment.inputs.download import downloaded, how_to_get
from experiment.inputs.heads import task_for
from experiment.inputs.methods import check_methods
from experiment.inputs.model import ModelSource, check_limits, model_source
from experiment.inputs.settings import read_settings
from experiment.inputs.splits import Split, read_splits
from experiment.inputs.transfer import own_heads, starting_heads
from experiment.io.trackers import trackers_of
from experiment.options.data import Files
from experiment.options.flags import PretrainOptions, TrainOptions
from experiment.options.joint import of_each_task, sampling_words
from experiment.options.model import TransferOptions
from experiment.options.recipe import TrainRecipe, resolve_recipe, task_of
from experiment.options.together import together
from experiment.training import rundir
from experiment.training.build import trainer_spec
from experiment.training.matching import HiddenStates, check_matching, load_states
from experiment.training.mixture import Source
from experiment.training.setup import Part, RunSetup
from experiment.training.teachers import Teacher, find_teachers, hashes_of_teachers, taught, teach_all
from preprocess.base.errors import DataError, UsageError
from preprocess.types import HeadSpec
from tasks.core.joint import SharedHead
from tasks.core.task import Task


@dataclass(frozen=True)
class ResolvedTask:
    """One task of a run, before its files are read.

    Args:
        task: with the choices made.
        options: of this task alone, with all files in them.
        recipe: what they come to.
    """

    task: Task
    options: TrainOptions
    recipe: TrainRecipe


@dataclass(frozen=True)
class Resolved:
    """What options stand for, before any file of data is read.

    Args:
        tasks: in the order in which they were typed.
        source: the model to start from.
        head: that it gets.
        recipe: of the whole run.
        notes: lines on what is not as one may have expected.
    """

    tasks: tuple[ResolvedTask, ...]
    source: ModelSource
    head: SharedHead
    recipe: TrainRecipe
    notes: list[str]


def prepare(options: TrainOptions) -> tuple[RunSetup, list[str], dict[str, Any]]:
    """Do all that can fail for a mistake in options or files; returns the setup, what to print, and the reports."""
    rundir.check_writable(options.output_dir)
    trackers_of(options.report_to)
    found = resolved(options)
    source, head, recipe = found.source, found.head, found.recipe
    rundir.check_place(recipe)
    backend, device, lines = ready(options, recipe, head.spec, source)
    teachers, notes = find_teachers(options, [each.task for each in found.tasks])
    check_matching(teachers, recipe, source)
    lines += [*found.notes, *notes]
    splits = read_all(found.tasks, taught=teach_all(teachers, options))
    reports = {name: {split: read.report for split, read in of_task.items()} for name, of_task in splits.items()}
    several = len(splits) > 1
    lines += [line for of_task in reports.values() for report in of_task.values() for line in report["lines"]]
    parts = []
    for each in found.tasks:
        name = each.task.name
        part, counts = _encoded(each, splits[name], source, head if several else None, reports[name])
        parts.append(part)
        lines += [f"{name} {line}" if several else line for line in counts]
    hashes = {**hashes_of(flat(reports), source), **hashes_of_teachers(teachers)}
    group, n_devices = backend.Group.current(), backend.n_devices(device)
    version = ",".join(each.task.version for each in found.tasks)
    lines += by_first(group, lambda: rundir.check_inputs(recipe, hashes, n_devices, version))
    if teachers:
        parts = [_taught(part, splits[part.task.name]["train"], teachers, options, group) for part in parts]
    if recipe.distill_hidden:
        parts = [_matching(part, load_states(teachers[0], backend, device)) for part in parts]
    setup = RunSetup(
        recipe,
        tuple(parts),
        source,
        head,
        backend,
        group,
        device,
        n_devices,
        {"config": recipe.config, "hashes": hashes},
        warnings=tuple(
            f"{name}: {warning}" if several else warning
            for name, of_task in reports.items()
            for report in of_task.values()
            for warning in report.get("warnings", ())
        ),
    )
    return setup, lines, reports if several else next(iter(reports.values()))


def _encoded(
    resolved: ResolvedTask,
    splits: Mapping[str, Split],
    source: ModelSource,
    head: SharedHead | None,
    reports: dict[str, Any],
) -> tuple[Part, list[str]]:
    """Cut a task's questions into windows; returns them with a line on each split, and adds to the reports."""
    encoded: dict[str, Data] = {}
    lines = []
    for name, split in splits.items():
        texts = resolved.task, split.examples, split.targets, source.tokenizer
        cache = resolved.options.feature_cache_dir
        encoded[name] = encode(*texts, resolved.recipe, cache, template=source.template)
        counts = encoded[name].features.meta["counts"]
        reports[name]["encoding"] = counts
        lines.append(f"{name}: " + ", ".join(f"{what} {value}" for what, value in counts.items()))
    part = Part(
        resolved.task,
        resolved.recipe,
        Source(resolved.task, encoded["train"], head),
        encoded["dev"],
        encoded.get("test"),
        {name: split.scorer for name, split in splits.items() if split.scorer is not None},
        hashes_of(reports, source),
    )
    return part, lines


def _taught(part: Part, split: Split, teachers: Sequence[Teacher], options: TrainOptions, group: Group) -> Part:
    """Return a part of a run that learns from teachers, too."""
    data = taught(part.source.data, split, teachers, options, group)
    hashes = {**part.hashes, **hashes_of_teachers(teachers)}
    return dataclasses.replace(part, source=dataclasses.replace(part.source, data=data), hashes=hashes)


def _matching(part: Part, teacher: HiddenStates) -> Part:
    """Return a part of a run that matches the hidden states of a teacher, too."""
    return dataclasses.replace(part, source=dataclasses.replace(part.source, teacher=teacher))


def ready(
    options: TrainOptions | PretrainOptions, recipe: TrainRecipe, head: HeadSpec, source: ModelSource
) -> tuple[Backend, str, list[str]]:
    """Find out whether a framework can train a model here; returns it, the device, and what to print.

    Raises:
        UsageError, CheckpointError: for what it, its device or its memory can't do.
    """
    backend = load_backend(options.framework)
    backend.allow_tf32(options.tf32)
    device = choose_device(backend, options.device)
    backend.be_deterministic(options.full_determinism and device != "cpu")
    backend.check_trainer(trainer_spec(recipe), device)
    lines = [source.loaded_tokenizer.casing, *(f"warning: {line}" for line in source.loaded_tokenizer.warnings)]
    if device == "cpu" and recipe.precision == "bf16" and (why := bf16_is_slow()) is not None:
        lines.append(f"warning: {why}")
    if source.checkpoint is not None:
        lines += backend.check_weights(source.checkpoint, head, fresh_head=True).lines()
    else:
        backend.outline(source.config, head)
    if device == "cpu":
        check_host_memory(source.config, head, host_memory())
    return backend, device, lines


def resolved(options: TrainOptions) -> Resolved:
    """Find what options stand for: tasks, files, model and recipe.

    Raises:
        UsageError, DataError, CheckpointError: for what is missing or does not fit together.
    """
    of_each = of_each_task(options)
    if len(of_each) > 1 and options.more_train_files:
        raise UsageError("--more_train_files: are of one task, and several are learned together; leave it out")
    source = model_source(options)
    checkpoint = source.checkpoint
    tasks = {
        name: task_for(task_of(own), source.config, checkpoint and own_heads(checkpoint, name))
        for name, own in of_each.items()
    }
    head = SharedHead({name: task.problem.head for name, task in tasks.items()}, options.classifier_dropout)
    is_given = options.classifier_dropout != TransferOptions.classifier_dropout
    if is_given and not any(output.drops for output in head.spec.outputs):
        raise UsageError(f"--classifier_dropout: {', '.join(tasks)} reads no class, tag or option; leave it out")
    source, notes = _starting(source, head, options)
    found = []
    for name, task in tasks.items():
        own = _with_downloaded(of_each[name], task, several=len(tasks) > 1)
        recipe = resolve_recipe(own, task, source.published)
        check_limits(recipe, source.name, source.config, source.published)
        found.append(ResolvedTask(task, own, recipe))
    recipe, differing = together(options, {each.task.name: each.recipe for each in found})
    check_methods(recipe, source.name, source.config, head.spec)
    if len(found) > 1:
        notes = [*notes, f"one model for {', '.join(tasks)}; sampling: {sampling_words(recipe.config)}", *differing]
    return Resolved(tuple(found), source, head, recipe, notes)


def _starting(source: ModelSource, head: SharedHead, options: TrainOptions) -> tuple[ModelSource, list[str]]:
    """Choose what is taken over of the head of the model to start from; returns a line where it is left out."""
    if source.checkpoint is None:
        if options.keep_head:
            raise UsageError("--keep_head: a model from scratch has no head; leave it out, or give a checkpoint")
        return source, []
    checkpoint = starting_heads(source.checkpoint, head, bool(options.keep_head), source.name)
    source = dataclasses.replace(source, checkpoint=checkpoint)
    taken = checkpoint.filled_by
    fresh = [name for name in head.spec.rows if taken is not None and name not in taken]
    if not fresh or read_settings(checkpoint.directory) is None:
        return source, []
    remedy = "" if options.keep_head else "; --keep_head keeps what fits"
    return source, [f"fresh of the head: {', '.join(fresh)}; that of the checkpoint is another task's{remedy}"]


def files_of(options: TrainOptions) -> tuple[dict[str, Files | None], dict[str, int | None]]:
    """Return the files of the splits of an only task, and how many questions are used of each."""
    given = {"train": options.train_file, "dev": options.validation_file, "test": options.test_file}
    files = {split: None if isinstance(path, Mapping) else path for split, path in given.items()}
    return files, {"train": options.max_train_samples, "dev": options.max_eval_samples}


def read_all(tasks: tuple[ResolvedTask, ...], *, taught: bool = False) -> dict[str, dict[str, Split]]:
    """Read the files of all tasks: task -> split -> what is in it; see `read_splits` for `taught`.

    Raises:
        DataError: naming all files that can't be used.
    """
    found, problems = {}, []
    for each in tasks:
        try:
            additions = additions_of(each.options, each.task)
            found[each.task.name] = read_splits(each.task, *files_of(each.options), additions, taught=taught)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("; ".join(problems))
    return found


def _with_downloaded(options: TrainOptions, task: Task, *, several: bool) -> TrainOptions:
    """Fill in the data files that were left out by what `download` fetched."""

    def file_of(flag: str, split: str) -> Files:
        files: Files | Mapping[str, Files] | None = getattr(options, flag) or downloaded(
            task, split, options.data_dir
        )
        if files is None:
            typed = f"{flag} {task.name}=FILE" if several else flag
            raise UsageError(how_to_get(task, split, typed, options.data_dir))
        assert not isinstance(files, Mapping), "of an only task"
        return files

    train_file, validation_file = file_of("train_file", "train"), file_of("validation_file", "dev")
    return dataclasses.replace(options, train_file=train_file, validation_file=validation_file)


def flat(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the reports on each task's splits by split: "train", or of several tasks "cmrc2018_train"."""
    if len(reports) == 1:
        return dict(next(iter(reports.values())))
    return {f"{task}_{split}": report for task, of_task in reports.items() for split, report in of_task.items()}


def hashes_of(reports: Mapping[str, Mapping[str, Any]], source: ModelSource) -> dict[str, str]:
    """Return the hashes that a Record holds: of the files, by the reports on them, and of the model."""
    hashes = {f"{split}_file": report["sha256"] for split, report in reports.items()}
    for split, report in reports.items():
        further = report.get("augmentation", {}).get("further_files", [])
        hashes |= {f"{split}_file_{number}": each["sha256"] for number, each in enumerate(further, start=2)}
    architecture = json.dumps(source.config.architecture, sort_keys=True)
    return {
        **hashes,
        "tokenizer": source.tokenizer.fingerprint,
        "checkpoint": source.checkpoint_sha256,
        "architecture": hashlib.sha256(architecture.encode()).hexdigest(),
    }
