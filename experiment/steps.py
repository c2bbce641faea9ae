"""Which windows each optimizer step takes, and after which steps the model is evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiment.config import TrainOptions
from preprocess.batch import collate, epoch_batches
from preprocess.types import Batch, FeatureSet


def windows_per_step(options: TrainOptions, n_devices: int) -> int:
    """Return how many windows all devices together take in one optimizer step."""
    assert options.per_device_train_batch_size is not None
    return options.per_device_train_batch_size * options.gradient_accumulation_steps * n_devices


@dataclass(frozen=True)
class Steps:
    """The steps of one seed, numbered from 1; all of it is a function of the arguments.

    Args:
        features: W windows to train on.
        options: with every default resolved.
        seed: of the order.
        n_devices: how many share the windows of each forward pass.
    """

    features: FeatureSet
    options: TrainOptions
    seed: int
    n_devices: int = 1

    @property
    def per_epoch(self) -> int:
        """Steps until every window has been taken once more; the last of them may take fewer windows."""
        return math.ceil(len(self.features) / windows_per_step(self.options, self.n_devices))

    @property
    def n(self) -> int:
        """Steps in all."""
        assert self.options.num_train_epochs is not None
        return math.ceil(self.per_epoch * self.options.num_train_epochs)

    @cached_property
    def evaluated(self) -> frozenset[int]:
        """The steps that an evaluation follows: every `eval_epochs` epochs, and the last."""
        interval = self.per_epoch * self.options.eval_epochs
        count = math.floor(self.n / interval)
        return frozenset(max(1, round(k * interval)) for k in range(1, count + 1)) | {self.n}

    def windows(self, n_done: int) -> Iterator[NDArray[np.int32]]:
        """Yield the windows of every step after step `n_done`, int32 [B]; earlier steps cost nothing."""
        for epoch in range(n_done // self.per_epoch, math.ceil(self.n / self.per_epoch)):
            batches = epoch_batches(
                self.features,
                windows_per_step(self.options, self.n_devices),
                seed=self.seed,
                epoch=epoch,
                group_by_length=self.options.group_by_length,
            )
            before = epoch * self.per_epoch
            yield from batches[max(0, n_done - before) : self.n - before]

    def batches(self, windows: NDArray[np.int32], pass_size: int) -> list[Batch]:
        """Return the forward passes of one step, `pass_size` windows per device in each, to be shared by all."""
        size = pass_size * self.n_devices
        return [collate(self.features, windows[i : i + size]) for i in range(0, len(windows), size)]
