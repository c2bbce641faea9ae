"""How many steps there are, and after which of them the model is evaluated."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from experiment.options.recipe import StepRecipe
from experiment.training.mixture import Draw, Mixture

#: Share by which a product or quotient of options may miss a whole number, some units of the 16th digit: 100 steps x
#: 1.1 are 110.00000000000001.
_ROUNDING = 1e-14


def windows_per_step(options: StepRecipe, n_devices: int) -> int:
    """Return how many windows all devices together take in one optimizer step."""
    return options.per_device_train_batch_size * options.gradient_accumulation_steps * n_devices


def _steps_in(per_epoch: int, n_epochs: float) -> int:
    """Return how many steps so many epochs take; the last may be less than a step."""
    return _ceil(per_epoch * n_epochs)


def _ceil(number: float) -> int:
    return math.ceil(number * (1 - _ROUNDING))


@dataclass(frozen=True)
class Evaluated(Collection[int]):
    """The steps that an evaluation follows: every `eval_epochs` epochs, no step twice, and the last.

    They are computed when they are asked for, so that their number costs nothing.

    Args:
        per_epoch: steps, numbered from 1.
        num_train_epochs: epochs in all.
        eval_epochs: epochs between two evaluations; less than a step is taken as a step.
    """

    per_epoch: int
    num_train_epochs: float
    eval_epochs: float

    def __contains__(self, step: object) -> bool:
        """Tell whether an evaluation follows a step."""
        assert isinstance(step, int)
        k = round(step / self._interval)
        return step == self._last or (1 <= k <= self._n_before and step == self._step(k))

    def __iter__(self) -> Iterator[int]:
        """Yield the steps in order."""
        yield from map(self._step, range(1, self._n_before + 1))
        yield self._last

    def __len__(self) -> int:
        """Return the number of evaluations."""
        return self._n_before + 1

    @cached_property
    def _interval(self) -> float:
        return max(1.0, min(self.per_epoch * self.eval_epochs, self._last))

    @cached_property
    def _last(self) -> int:
        return _steps_in(self.per_epoch, self.num_train_epochs)

    @cached_property
    def _n_before(self) -> int:
        """How many come before the last step: the multiple of the interval that ends the training stands for that."""
        n = _ceil(self.per_epoch * self.num_train_epochs / self._interval) - 1
        return n - 1 if self._step(n) == self._last else n

    def _step(self, k: int) -> int:
        return round(k * self._interval)


@dataclass(frozen=True)
class Steps:
    """The steps of one seed, numbered from 1; all of it is a function of the arguments.

    Args:
        mixture: what they draw from, in which order.
        num_train_epochs: epochs in all.
        eval_epochs: epochs between two evaluations.
    """

    mixture: Mixture
    num_train_epochs: float
    eval_epochs: float

    @property
    def per_epoch(self) -> int:
        """Steps per epoch."""
        return self.mixture.per_epoch

    @property
    def n(self) -> int:
        """Steps in all."""
        return _steps_in(self.per_epoch, self.num_train_epochs)

    @cached_property
    def evaluated(self) -> Evaluated:
        """The steps that an evaluation follows."""
        return Evaluated(self.per_epoch, self.num_train_epochs, self.eval_epochs)

    def draws(self, n_done: int) -> Iterator[Draw]:
        """Yield what every step after step `n_done` takes."""
        yield from islice(self.mixture.draws(n_done), self.n - n_done)
