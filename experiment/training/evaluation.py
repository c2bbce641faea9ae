"""What a model is worth: on dev while it trains, and on every split with the selected checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiment.answering import outputs_of, predictor_of
from experiment.inputs.data import Data
from experiment.io.predictions import write_predictions, write_score
from experiment.io.terminal import Bars
from experiment.training.guards import REMEDY, TrainingError
from experiment.training.setup import Part, RunSetup
from preprocess.base.files import write_json
from preprocess.types import Outputs
from tasks.core.prediction import DecodeOptions
from tasks.core.problem import Tunable


def brief(names: Sequence[str], values: Mapping[str, float]) -> str:
    """Format some metrics: those that select the checkpoint; the Record and the scores file hold all of them."""
    return " ".join(f"{name} {values[name]:.3f}" for name in names if name in values)


@dataclass(frozen=True)
class TaskEvaluation:
    """What an evaluation found of one task.

    Args:
        values: metric -> value.
        options: of decoding, by which they were reached.
        outputs: of all windows.
    """

    values: dict[str, float]
    options: DecodeOptions
    outputs: list[Outputs]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        values: metric -> value, as the Record holds them.
        by_task: what was found of each task.
    """

    values: dict[str, float]
    by_task: dict[str, TaskEvaluation]

    @property
    def decode(self) -> dict[str, Any]:
        """The decoding options, as the Record holds them: of several tasks, by task."""
        options = {name: asdict(found.options) for name, found in self.by_task.items()}
        return options if len(options) > 1 else next(iter(options.values()))


def evaluate(setup: RunSetup, model: Any, interrupted: Callable[[], bool], bars: Bars) -> Evaluation | None:
    """Score the model on dev by its best answers alone.

    Args:
        setup: what all seeds share.
        model: of the setup's backend.
        interrupted: asked after every batch.
        bars: get one for each task.

    Returns:
        None if interrupted.

    Raises:
        TrainingError: if outputs are not finite.
    """
    found: dict[str, TaskEvaluation] = {}
    for part in setup.parts:
        outputs = []
        for batch in task_outputs(setup, model, part, part.dev, bars, "dev"):
            if interrupted():
                return None
            if not all(
                np.isfinite(values.reshape(len(values), -1)[:, :1]).all() for values in batch.values.values()
            ):  # of a token that is real
                raise TrainingError(f"logits on dev are not finite; {REMEDY}")
            outputs.append(batch)
        found[part.task.name] = _scored(part, outputs)
    return Evaluation(setup.values({name: each.values for name, each in found.items()}), found)


def task_outputs(setup: RunSetup, model: Any, part: Part, data: Data, bars: Bars, split: str) -> Iterator[Outputs]:
    """Run a model over a task's windows; the outputs have the names that its problem knows."""
    where = f"{part.task.name} {split}" if setup.is_joint else split
    predict = predictor_of(setup.backend, model, setup.options)
    return outputs_of(predict, data, setup.options, bars, where, setup.head, part.task.name)


def _scored(part: Part, outputs: list[Outputs]) -> TaskEvaluation:
    options = _tuned(part, outputs)
    answers = part.task.problem.best_answers(part.dev.examples, part.dev.features, outputs, options)
    return TaskEvaluation(dict(part.scorers["dev"](answers).values), options, outputs)


def _tuned(part: Part, outputs: Sequence[Outputs]) -> DecodeOptions:
    """Return the decoding options, tuned on dev where the task can and the user has not chosen."""
    options = part.recipe.decode
    problem = part.task.problem
    if not isinstance(problem, Tunable) or not part.recipe.tunes_threshold:
        return options
    return problem.tune(part.dev.examples, part.dev.features, outputs, options, part.scorers["dev"])


@dataclass(frozen=True)
class SplitResult:
    """What came of a split.

    Args:
        texts: question id -> text of the answer, whatever else the metric reads of it.
        values: metric -> value; None if the split has no answers to score against.
        lines: the task's report.
    """

    texts: dict[str, str]
    values: dict[str, float] | None = None
    lines: list[str] = field(default_factory=list)


def predict_split(
    part: Part,
    split: str,
    data: Data,
    outputs: Iterable[Outputs],
    options: DecodeOptions,
    directory: Path | None,
    suffix: str,
) -> SplitResult:
    """Answer a split's questions and score the answers.

    Args:
        part: the task.
        split: its name.
        data: its questions.
        outputs: of all its windows.
        options: of decoding.
        directory: gets predictions, scores and report; with None nothing is written.
        suffix: of the files' names.
    """
    predictions = part.task.problem.decode(data.examples, data.features, outputs, options)
    texts = {id: prediction.text for id, prediction in predictions.items()}
    if directory is not None:
        write_predictions(part.task, data.examples, directory, predictions, suffix=suffix)
    if split not in part.scorers:
        return SplitResult(texts)
    answers = {id: part.task.answer(prediction) for id, prediction in predictions.items()}
    score = part.scorers[split](answers)
    report = part.task.report(data.examples, answers) if part.task.report is not None else None
    if directory is not None:
        write_score(directory / f"scores{suffix}.json", part.task, score)
        if report is not None:
            write_json(directory / f"report{suffix}.json", report)
    return SplitResult(texts, dict(score.values), report["lines"] if report is not None else [])
