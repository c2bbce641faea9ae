"""Answers of several fine-tuned models as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from experiment.answering import about_cut_texts, prepare
from experiment.inputs.data import read_examples, scorer_of
from experiment.io.outputs import check_directory
from experiment.io.predictions import write_predictions, write_protocol, write_score
from experiment.io.terminal import Bars, terminal, warn
from experiment.options.answers import EnsembleOptions
from experiment.options.flags import PredictOptions
from experiment.options.recipe import task_of
from experiment.reading.reader import Reader
from experiment.training.finished import finished_seeds, framework_of, is_run
from experiment.training.record import run_of
from preprocess.base.errors import DataError, UsageError
from tasks.core.prediction import Prediction
from tasks.core.task import Task, TaskOptions
from tasks.problems.averaging import Average
from tasks.problems.kinds import KindProblem
from tasks.problems.span import SpanProblem

_FILES = ("predictions.json", "nbest_predictions.json", "protocol.json", "scores.json")


@dataclass(frozen=True)
class _Member:
    """A checkpoint of an ensemble.

    Args:
        checkpoint: as it was typed, or its path in a run directory.
        framework: that is to compute.
    """

    checkpoint: str
    framework: str


def ensemble(options: EnsembleOptions) -> dict[str, Prediction]:
    """Average the models' probabilities over the characters of each text, and write and score the answers.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used, before any model is loaded.
    """
    check_directory("--output_dir", options.output_dir, _FILES)
    task = task_of(options)
    problem = task.problem
    if not isinstance(problem, SpanProblem | KindProblem):
        raise UsageError(f"--task {task.name}: its answers are no spans, and others can't be averaged")
    members = _members(options, task.name)
    ready = [prepare(_options_for(options, member)) for member in members]
    for member, prepared in zip(members, ready, strict=True):
        if prepared.task.problem.head.given:
            raise UsageError(
                f"{member.checkpoint}: the ends of its spans depend on their starts, which can't be averaged; "
                "leave it out"
            )
        warn(f"{member.checkpoint}: {note}" for note in prepared.notes)
    examples, report = read_examples(task, options.test_file, options.max_eval_samples)
    if not examples:
        raise DataError(f"{options.test_file}: holds no question; give a file with questions")
    console = terminal()
    if report.dropped:
        console.print("\n".join(report.lines()))
    average = Average(problem, examples)
    with Bars(console) as bars:
        for member, prepared in zip(members, ready, strict=True):
            # One model in memory at a time.
            with Reader(prepared) as reader:
                data = prepared.windows(examples, cached=True)
                warn(about_cut_texts(data.features, prepared.recipe))
                try:
                    outputs = reader.outputs(data, bars, member.checkpoint)
                    average.add(data.features, outputs, prepared.recipe.decode)
                except DataError as error:
                    raise DataError(f"{member.checkpoint}: {error}") from None
    predictions = average.decode(options.n_best_size)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    write_predictions(task, examples, options.output_dir, predictions)
    write_protocol(options.output_dir, _protocol(task, members, report.sha256))
    console.print(f"{len(predictions)} answers of {len(members)} models written to {options.output_dir}")
    if all(example.labelled for example in examples):
        score = scorer_of(task, examples, report)({id: one.text for id, one in predictions.items()})
        write_score(options.output_dir / "scores.json", task, score)
        for name in task.selection:
            console.print(f"{name}  {score.values[name]:.3f}")
    return predictions


def _members(options: EnsembleOptions, task: str) -> list[_Member]:
    found: list[_Member] = []
    for run in (run_of(run, task) for run in options.runs):
        if not is_run(run):
            found.append(_Member(str(run), options.framework or framework_of(run)))
            continue
        seeds = finished_seeds(run)
        if not seeds:
            raise UsageError(f"{run}: no seed of it is finished; run its train command again, or leave it out")
        found += [_Member(str(checkpoint), options.framework or framework) for checkpoint, framework in seeds]
    if len({Path(member.checkpoint).resolve() for member in found}) < len(found):
        raise UsageError("RUNS: a checkpoint stands there twice, and would count twice; give each once")
    if not found:
        raise UsageError("give RUNS: run directories or checkpoints")
    return found


def _options_for(options: EnsembleOptions, member: _Member) -> PredictOptions:
    choices = {field.name: getattr(options, field.name) for field in fields(TaskOptions)}
    return PredictOptions(
        task=options.task,
        version_2_with_negative=options.version_2_with_negative,
        model_name_or_path=member.checkpoint,
        framework="tensorflow" if member.framework == "tensorflow" else "pytorch",
        device=options.device,
        per_device_eval_batch_size=options.per_device_eval_batch_size,
        feature_cache_dir=options.feature_cache_dir,
        **choices,
    )


def _protocol(task: Task, members: Sequence[_Member], data_sha256: str) -> Mapping[str, Any]:
    return {
        "protocol": f"mean of the span probabilities of {len(members)} models, by character",
        "task": task.name,
        "task_version": task.version,
        "members": [{"checkpoint": member.checkpoint, "framework": member.framework} for member in members],
        "data_sha256": data_sha256,
    }
