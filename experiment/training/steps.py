"""Which windows each optimizer step takes, and after which steps the model is evaluated."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiment.options.recipe import StepRecipe
from preprocess.batch import collate, epoch_batches, n_batches, split_batch
from preprocess.types import Batch, FeatureSet

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
        features: W windows to train on.
        options: the recipe.
        seed: of the order.
        n_devices: how many share the windows of each forward pass.
        whole_groups: whether the windows of an example are learned from together.
    """

    features: FeatureSet
    options: StepRecipe
    seed: int
    n_devices: int = 1
    whole_groups: bool = False

    @property
    def per_epoch(self) -> int:
        """Steps until every window has been taken once more; the last of them may take fewer windows."""
        size = windows_per_step(self.options, self.n_devices)
        return n_batches(self.features, size, whole_groups=self.whole_groups)

    @property
    def n(self) -> int:
        """Steps in all."""
        return _steps_in(self.per_epoch, self.options.num_train_epochs)

    @cached_property
    def evaluated(self) -> Evaluated:
        """The steps that an evaluation follows."""
        return Evaluated(self.per_epoch, self.options.num_train_epochs, self.options.eval_epochs)

    def windows(self, n_done: int) -> Iterator[NDArray[np.int32]]:
        """Yield the windows of every step after step `n_done`, int32 [B]; earlier steps cost nothing."""
        for epoch in range(n_done // self.per_epoch, math.ceil(self.n / self.per_epoch)):
            batches = epoch_batches(
                self.features,
                windows_per_step(self.options, self.n_devices),
                seed=self.seed,
                epoch=epoch,
                group_by_length=self.options.group_by_length,
                whole_groups=self.whole_groups,
            )
            before = epoch * self.per_epoch
            yield from batches[max(0, n_done - before) : self.n - before]

    def batches(self, windows: NDArray[np.int32], pass_size: int) -> list[Batch]:
        """Return the forward passes of one step, `pass_size` windows per device in each, to be shared by all."""
        size = pass_size * self.n_devices
        parts = split_batch(self.features, windows, size, whole_groups=self.whole_groups)
        return [collate(self.features, part) for part in parts]
