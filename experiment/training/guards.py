"""What goes wrong with a training without an exception, and how it is said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiment.training.mixture import Draw
from preprocess.base.errors import TrainingError as TrainingError
from preprocess.base.files import write_json

NONFINITE_FILE = "nonfinite_steps.json"
REMEDY = "lower --learning_rate, or use --bf16 instead of --fp16"


@dataclass
class Divergence:
    """Notices a loss that had fallen below half of chance and is back at it (80 %) for three log lines in a row.

    Args:
        chance: loss of a model that knows nothing.
        lowest: the lowest loss so far.
        n_high: log lines in a row with a loss like chance.
        noticed: whether it has been said.
    """

    chance: float
    lowest: float = math.inf
    n_high: int = 0
    noticed: bool = False

    def notices(self, loss: float) -> bool:
        """Take in the loss of a log line; true once, when training has diverged."""
        self.lowest = min(self.lowest, loss)
        self.n_high = self.n_high + 1 if loss > 0.8 * self.chance else 0
        diverged = self.n_high >= 3 and self.lowest < 0.5 * self.chance and not self.noticed
        self.noticed |= diverged
        return diverged


def all_empty(answers: Mapping[str, str]) -> bool:
    """Whether there are questions, and none is answered."""
    return bool(answers) and not any(answers.values())


def nonfinite_steps(directory: Path, first: int, draws: Sequence[Draw]) -> TrainingError:
    """Write which windows, of which questions, the steps from `first` on took; returns the error naming that file."""
    path = directory / NONFINITE_FILE
    steps = []
    for step, draw in enumerate(draws, first):
        data = draw.source.data
        ids = [data.examples[i].id for i in data.features.example_index[draw.windows]]
        of_task = {} if draw.source.head is None else {"task": draw.source.task.name}
        steps.append({"step": step, **of_task, "windows": draw.windows.tolist(), "ids": ids})
    write_json(path, steps)
    last = first + len(draws) - 1
    return TrainingError(
        f"loss or gradients of steps {first} to {last} are not finite (what they took: {path}); {REMEDY}"
    )
