"""What a model is worth: on dev while it trains, and on every split with the selected checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiment.answering import outputs_of, predictor_of
from experiment.inputs.data import Data
from experiment.io.predictions import write_predictions, write_score
from experiment.io.terminal import Bars
from experiment.training.guards import REMEDY, TrainingError
from experiment.training.setup import RunSetup
from preprocess.base.files import write_json
from preprocess.types import Outputs
from tasks.core.prediction import DecodeOptions
from tasks.core.problem import Tunable
from tasks.core.task import Task


def selection(task: Task, values: Mapping[str, float]) -> float:
    """Return what selects the checkpoint, the largest winning."""
    return sum(values[name] for name in task.selection)


def brief(task: Task, values: Mapping[str, float]) -> str:
    """Format the metrics that select the checkpoint; the Record and the scores file hold all of them."""
    return " ".join(f"{name} {values[name]:.3f}" for name in task.selection)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        values: metric -> value.
        options: of decoding, by which they were reached.
        outputs: of all windows.
    """

    values: dict[str, float]
    options: DecodeOptions
    outputs: list[Outputs]


def evaluate(setup: RunSetup, model: Any, interrupted: Callable[[], bool], bars: Bars) -> Evaluation | None:
    """Score the model on dev by its best answers alone.

    Args:
        setup: what all seeds share.
        model: of the setup's backend.
        interrupted: asked after every batch.
        bars: get one.

    Returns:
        None if interrupted.

    Raises:
        TrainingError: if outputs are not finite.
    """
    outputs = []
    for part in outputs_of(predictor_of(setup.backend, model, setup.options), setup.dev, setup.options, bars, "dev"):
        if interrupted():
            return None
        if not all(
            np.isfinite(values.reshape(len(values), -1)[:, :1]).all() for values in part.values.values()
        ):  # of a token that is real
            raise TrainingError(f"logits on dev are not finite; {REMEDY}")
        outputs.append(part)
    options = _tuned(setup, outputs)
    answers = setup.task.problem.best_answers(setup.dev.examples, setup.dev.features, outputs, options)
    return Evaluation(dict(setup.scorers["dev"](answers).values), options, outputs)


def _tuned(setup: RunSetup, outputs: Sequence[Outputs]) -> DecodeOptions:
    """Return the decoding options, tuned on dev where the task can and the user has not chosen."""
    options = setup.options.decode
    problem = setup.task.problem
    if not isinstance(problem, Tunable) or not setup.options.tunes_threshold:
        return options
    return problem.tune(setup.dev.examples, setup.dev.features, outputs, options, setup.scorers["dev"])


@dataclass(frozen=True)
class SplitResult:
    """What came of a split.

    Args:
        answers: question id -> answer.
        values: metric -> value; None if the split has no answers to score against.
        lines: the task's report.
    """

    answers: dict[str, str]
    values: dict[str, float] | None = None
    lines: list[str] = field(default_factory=list)


def predict_split(
    setup: RunSetup,
    split: str,
    data: Data,
    outputs: Iterable[Outputs],
    options: DecodeOptions,
    directory: Path | None,
) -> SplitResult:
    """Answer a split's questions and score the answers.

    Args:
        setup: what all seeds share.
        split: its name, part of the files' names.
        data: its questions.
        outputs: of all its windows.
        options: of decoding.
        directory: gets predictions, scores and report; with None nothing is written.
    """
    predictions = setup.task.problem.decode(data.examples, data.features, outputs, options)
    answers = {id: setup.task.answer(prediction) for id, prediction in predictions.items()}
    if directory is not None:
        write_predictions(setup.task, data.examples, directory, predictions, suffix=f"_{split}")
    if split not in setup.scorers:
        return SplitResult(answers)
    score = setup.scorers[split](answers)
    report = setup.task.report(data.examples, answers) if setup.task.report is not None else None
    if directory is not None:
        write_score(directory / f"scores_{split}.json", setup.task, score)
        if report is not None:
            write_json(directory / f"report_{split}.json", report)
    return SplitResult(answers, dict(score.values), report["lines"] if report is not None else [])
