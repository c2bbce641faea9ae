"""Two frameworks' observations held against each other; docs/parity.md says where the tolerances come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from experiment.parity.observe import ANSWERS, GRADIENTS, STEP, WEIGHTS, Observation
from preprocess.types import HeadSpec, Outputs
from pretrained_configs.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far two implementations may be apart.

    Args:
        activations: relative to the largest of the stage.
        logits: absolute; also for the loss, which moves by at most twice as much as the logits.
        gradients: relative to the largest of the parameter.
        gradient_floor: relative to the largest gradient of the model: rounding of large terms that cancel.
        parameters: any element, relative to the way it can have gone; 1e-5 of the parameter's largest is allowed
            anyway.
        movement: root mean square of a parameter's elements, relative to the way it can have gone.
        answers: share of the questions.
        scores: absolute, in percent.
    """

    activations: float
    logits: float
    gradients: float
    gradient_floor: float
    parameters: float
    movement: float
    answers: float
    scores: float


TOLERANCES = {
    "fp32": Tolerances(5e-6, 1e-4, 1e-4, 1e-7, 2e-2, 2e-4, 0.0, 0.0),
    "fp16": Tolerances(5e-3, 2e-2, 5e-2, 5e-5, 2.0, 1e-1, 0.05, 1.0),
    "bf16": Tolerances(5e-2, 2e-1, 2e-1, 5e-4, 2.0, 3e-1, 0.1, 2.0),
}

#: What a parameter may differ by in any case, relative to its largest.
_SIZE = 1e-5
#: Root mean square of what rounding to float32 leaves of a step, relative to the largest of the parameter.
_ROUNDING = 2e-8


@dataclass(frozen=True, slots=True)
class StageRow:
    """The verdict on one stage.

    Args:
        stage: what was compared.
        worst: where the difference is largest in comparison with what is allowed; "" if there is none, or the stage
            is one array.
        max_abs: largest absolute difference there.
        relative: the same, relative to the largest absolute value there.
        tolerance: what max_abs may be.
        ok: whether it is not more.
    """

    stage: str
    worst: str
    max_abs: float
    relative: float
    tolerance: float
    ok: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A measured difference: its place, its size, the largest value there, and the size that is allowed."""

    name: str
    max_abs: float
    largest: float
    allowed: float

    @property
    def excess(self) -> float:
        """The difference in units of what is allowed."""
        if math.isnan(self.max_abs):
            return math.inf
        return self.max_abs / self.allowed if self.allowed else (math.inf if self.max_abs else 0.0)


def row(stage: str, parts: Sequence[Part]) -> StageRow:
    """Sum up a stage by its worst part."""
    worst = max(parts, key=lambda part: part.excess)
    relative = worst.max_abs / worst.largest if worst.largest else worst.max_abs
    return StageRow(
        stage, worst.name if worst.excess else "", worst.max_abs, relative, worst.allowed, worst.excess <= 1
    )


#: Losses of a softmax over one value each of the tokens of a window, or of the options of a question.
_COMPETING = ("position", "choice")


def idle_parameters(config: ModelConfig, head: HeadSpec, names: Iterable[str]) -> dict[str, slice]:
    """Say which elements of which parameters the loss does not depend on.

    Their gradients are zero in exact arithmetic; AdamW makes steps of any size out of what rounding leaves of them.
    The last bias of a head for positions or options, or of a LayerNorm before it, adds one number to all logits that
    compete, and a softmax does not notice.

    Returns:
        parameter -> its elements.
    """
    # Options are read through the pooler's tanh, so the last bias before it is only nearly idle: what is left of its
    # gradient when it cancels is as small as rounding.
    all_compete = all(output.loss in _COMPETING and not output.given for output in head.outputs)
    idle = config.family.idle_parameters(config, names, competing=all_compete)
    for name, outputs in head.projections.items():
        if outputs[0].loss in _COMPETING:
            last = ("norm.bias", "output.bias") if name in head.given else ("bias",)
            idle |= {f"head.{name}.{bias}": slice(None) for bias in last}
    return idle


Pair = tuple[Observation, Observation]


@dataclass(frozen=True)
class Comparison:
    """What two streams of observations are judged by.

    Args:
        tolerances: for the precision that both compute in.
        config: the architecture.
        head: what the model answers with.
        learning_rate: its peak.
        judge_answers: compares what both answer, given their logits; None if nothing is asked.
    """

    tolerances: Tolerances
    config: ModelConfig
    head: HeadSpec
    learning_rate: float
    judge_answers: Callable[[list[Outputs], list[Outputs]], Iterator[StageRow]] | None = None

    def rows(self, first: Iterable[Observation], second: Iterable[Observation]) -> Iterator[StageRow]:
        """Yield the verdict on each stage as soon as both have computed it, and last those on all steps together."""
        movement: list[Part] = []
        drift: list[Part] = []
        for stage, pairs in groupby(zip(first, second, strict=True), key=lambda pair: pair[0].stage):
            kind, _, step = stage.partition(" ")
            if kind == ANSWERS:
                assert self.judge_answers is not None, "answers that nobody asked for"
                ours, theirs = zip(*pairs, strict=True)
                yield from self.judge_answers(
                    [observation.value for observation in ours], [observation.value for observation in theirs]
                )
            elif kind == STEP:
                parts, means, idle = self._parameters(list(pairs), self.learning_rate * int(step))
                yield row(stage, parts)
                movement += means
                drift += idle
            elif kind == GRADIENTS:
                yield row(stage, self._gradients(list(pairs)))
            else:
                yield row(stage.replace("_", " "), [self._output(stage, *pair) for pair in pairs])
        if movement:
            yield row("all steps (rms)", movement)
            yield row("idle parameters", drift)

    def _output(self, stage: str, ours: Observation, theirs: Observation) -> Part:
        name, max_abs, largest = _measure(ours, theirs)
        if stage == WEIGHTS:
            return Part(name, max_abs, largest, 0.0)
        absolute = stage == "loss" or stage.endswith("logits")
        return Part(
            name, max_abs, largest, self.tolerances.logits if absolute else self.tolerances.activations * largest
        )

    def _gradients(self, pairs: list[Pair]) -> list[Part]:
        idle = idle_parameters(self.config, self.head, (ours.name for ours, _ in pairs))
        measured = [_measure(*pair) for pair in _without(pairs, idle)]
        top = max(largest for _, _, largest in measured)
        tolerance, floor = self.tolerances.gradients, self.tolerances.gradient_floor * top
        parts = [Part(name, d, largest, max(tolerance * largest, floor)) for name, d, largest in measured]
        return parts + [Part(*_measure(*pair), tolerance * top) for pair in _only(pairs, idle)]

    def _parameters(self, pairs: list[Pair], way: float) -> tuple[list[Part], list[Part], list[Part]]:
        """Return largest and mean differences of what the loss depends on, and the largest of the rest."""
        idle = idle_parameters(self.config, self.head, (ours.name for ours, _ in pairs))
        parts, means = [], []
        for pair in _without(pairs, idle):
            name, largest_difference, size = _measure(*pair)
            allowed = max(_SIZE * size, self.tolerances.parameters * way)
            parts.append(Part(name, largest_difference, size, allowed))
            allowed = self.tolerances.movement * way + _ROUNDING * size
            means.append(Part(name, _mean_difference(*pair), size, allowed))
        return parts, means, [Part(*_measure(*pair), 2 * way) for pair in _only(pairs, idle)]


def _measure(ours: Observation, theirs: Observation) -> tuple[str, float, float]:
    """Return the name, the largest absolute difference, and the largest absolute value."""
    assert ours[:2] == theirs[:2] and ours.value.shape == theirs.value.shape, f"{ours[:2]} beside {theirs[:2]}"
    difference = float(np.abs(ours.value - theirs.value).max())
    return ours.name, difference, float(max(np.abs(ours.value).max(), np.abs(theirs.value).max()))


def _mean_difference(ours: Observation, theirs: Observation) -> float:
    return float(np.sqrt(np.mean(np.square(ours.value - theirs.value))))


def _only(pairs: Iterable[Pair], idle: Mapping[str, slice]) -> Iterator[Pair]:
    for pair in pairs:
        if pair[0].name in idle:
            yield _changed(pair, lambda value, name: value[idle[name]])


def _without(pairs: Iterable[Pair], idle: Mapping[str, slice]) -> Iterator[Pair]:
    for pair in pairs:
        kept = _changed(pair, lambda value, name: np.delete(value, idle[name])) if pair[0].name in idle else pair
        if kept[0].value.size:
            yield kept


def _changed(pair: Pair, change: Callable[[NDArray[np.float32], str], NDArray[np.float32]]) -> Pair:
    ours, theirs = (side._replace(value=change(side.value, side.name)) for side in pair)
    return ours, theirs
