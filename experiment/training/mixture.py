"""Where steps draw their windows from: one source or several, in an order that can be entered at any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiment.inputs.data import Data
from experiment.options.joint import PROPORTIONAL, Sampling
from preprocess.batch import epoch_batches, n_batches, split_batch
from preprocess.types import Batch
from tasks.core.joint import SharedHead
from tasks.core.problem import PartlyAnswered
from tasks.core.task import Task

if TYPE_CHECKING:
    from experiment.training.matching import HiddenStates

#: Keeps the draw of the turns apart from every other use of the seed.
_TURNS = 0x7475726E


@dataclass(frozen=True, eq=False)
class Source:
    """What can be drawn from.

    Args:
        task: whose head and targets the windows have.
        data: its questions and their windows; every example has a target.
        head: of the model that learns from it; None for the task's own.
        teacher: whose hidden states are matched; None for nobody's.
    """

    task: Task
    data: Data
    head: SharedHead | None = None
    teacher: HiddenStates | None = None

    @cached_property
    def answered(self) -> NDArray[np.bool_] | None:
        """Which windows hold an answer, bool [W], if the problem tells those from the others."""
        problem = self.task.problem
        return problem.answered(self.data.features) if isinstance(problem, PartlyAnswered) else None

    def batch(self, rows: NDArray[np.int32], *words: int) -> Batch:
        """Return some windows as the model reads them; `words` are those of `Data.batch`."""
        batch = self.data.batch(rows, *words)
        return batch if self.head is None else self.head.batch(self.task.name, batch)

    @property
    def whole_groups(self) -> bool:
        """Whether the windows of an example are learned from together."""
        return self.task.problem.head.whole_groups


@dataclass(frozen=True)
class Draw:
    """What one optimizer step takes: windows of one source.

    Args:
        source: the source.
        windows: int32 [B], indices into its features.
        words: seed and epoch, of which what is drawn of a window is a function.
    """

    source: Source
    windows: NDArray[np.int32]
    words: tuple[int, ...] = ()

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Real tokens per window, int64 [B]."""
        return self.source.data.features.lengths[self.windows]

    def batches(self, size: int) -> list[Batch]:
        """Return the forward passes of the step, `size` windows of all devices together in each."""
        features, answered = self.source.data.features, self.source.answered
        parts = split_batch(features, self.windows, size, whole_groups=self.source.whole_groups)
        batches = [self.source.batch(part, *self.words) for part in parts]
        if self.source.teacher is not None:
            n_tokens = int(self.lengths.sum())
            batches = [self.source.teacher.added_to(batch, n_tokens) for batch in batches]
        if answered is None:
            return batches
        return [replace(batch, answered=answered[batch.window]) for batch in batches]


@dataclass(frozen=True)
class Mixture:
    """Sources that take turns: an epoch has as many as it takes to see the windows of all of them once.

    A source's own windows come in the order in which they would come without the others. Which source a step draws
    from, and what, is a function of the arguments and the step.

    Args:
        sources: at least one.
        batch_size: windows per step; the last step of a source and epoch may take fewer.
        seed: 0 or more.
        group_by_length: whether windows of like length stand together.
        sampling: how often each source's turn comes: in proportion to the steps that its windows take, so that each
            is seen once per epoch, or otherwise. Who runs out of windows begins again, in another order; who has some
            left goes on with them in the next epoch.
    """

    sources: tuple[Source, ...]
    batch_size: int
    seed: int
    group_by_length: bool = True
    sampling: Sampling = PROPORTIONAL

    @cached_property
    def _n_steps(self) -> list[int]:
        """Steps per epoch of each source."""
        return [
            n_batches(source.data.features, self.batch_size, whole_groups=source.whole_groups)
            for source in self.sources
        ]

    @cached_property
    def _n_turns(self) -> list[int]:
        """Turns per epoch of each source."""
        if len(self.sources) == 1:
            return self._n_steps
        return self.sampling.turns(self._n_steps)

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch: what it takes to see every window of every source once."""
        return sum(self._n_steps)

    def draws(self, n_done: int) -> Iterator[Draw]:
        """Yield what every step after step `n_done` takes, without end; earlier epochs cost nothing."""
        for epoch in count(n_done // self.per_epoch):
            skipped = max(0, n_done - epoch * self.per_epoch)
            turns = self._turns(epoch)
            n_before = np.bincount(turns[:skipped], minlength=len(self.sources)) + epoch * np.array(self._n_turns)
            batches = [self._batches(i, int(n)) for i, n in enumerate(n_before)]
            for turn in turns[skipped:]:
                rows, own_epoch = next(batches[turn])
                yield Draw(self.sources[turn], rows, (self.seed, own_epoch))

    def _turns(self, epoch: int) -> NDArray[np.int64]:
        """Return the source of each step of an epoch, int64 [per_epoch]."""
        turns = np.repeat(np.arange(len(self.sources)), self._n_turns)
        if len(self.sources) == 1:
            return turns
        words = np.random.SeedSequence([self.seed, epoch, _TURNS])
        return np.random.Generator(np.random.Philox(words)).permutation(turns)

    def _batches(self, index: int, n_before: int) -> Iterator[tuple[NDArray[np.int32], int]]:
        """Yield what a source gives after so many turns of its own, with its own epoch, without end."""
        source, n_steps = self.sources[index], self._n_steps[index]
        for epoch in count(n_before // n_steps):
            batches = epoch_batches(
                source.data.features,
                self.batch_size,
                seed=self.seed,
                epoch=epoch,
                group_by_length=self.group_by_length,
                whole_groups=source.whole_groups,
            )
            yield from ((rows, epoch) for rows in batches[max(0, n_before - epoch * n_steps) :])
