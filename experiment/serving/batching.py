"""Windows of many requests, computed in batches of like length by one thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from experiment.backend import Predictor
from preprocess.batch import collate, unpadded, widened
from preprocess.types import Batch, FeatureSet, Outputs

#: Windows share a batch if their padded lengths differ by no more than this factor: padding costs as much as text.
_LIKE = 1.5
#: Lengths are padded to multiples of this.
_GRAIN = 32


class QueueFullError(RuntimeError):
    """So many windows wait already that those of one more request would wait for too long."""


@dataclass(eq=False)
class _Job:
    """The windows of a request.

    Args:
        features: that they come from.
        width: int64 [W], padded lengths.
        waiting: indices of those that nobody computes yet.
        n_left: how many are not computed.
        arrived_s: when it came, by the monotonic clock.
        outputs: of the others.
        future: gets all of them.
    """

    features: FeatureSet
    width: list[int]
    waiting: list[int]
    n_left: int
    arrived_s: float
    outputs: list[Outputs] = field(default_factory=list)
    future: Future[list[Outputs]] = field(default_factory=Future)


class Batcher:
    """Computes windows in the order of their requests, but fills each batch with windows of all requests that wait.

    A request with many windows does not hold up those behind it: each in turn gets a window into the batch.
    """

    def __init__(
        self,
        run: Predictor,
        *,
        batch_size: int,
        wait_s: float,
        max_waiting: int,
        watch: Callable[[int, float], None] = lambda n_windows, seconds: None,
    ) -> None:
        """Start the thread.

        Args:
            run: runs the model.
            batch_size: most windows of a batch.
            wait_s: seconds that a window waits for others.
            max_waiting: most windows that may wait.
            watch: is told the windows and the seconds of each batch.
        """
        self._run, self._watch = run, watch
        self._batch_size, self._wait_s, self._max_waiting = batch_size, wait_s, max_waiting
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """How many windows wait."""
        return sum(len(job.waiting) for job in self._jobs)

    @property
    def alive(self) -> bool:
        """Whether windows are computed."""
        return self._thread.is_alive() and not self._closing

    def submit(self, features: FeatureSet) -> Future[list[Outputs]]:
        """Let all windows be computed; who does not want them any more cancels the future.

        Args:
            features: any number of windows.

        Raises:
            QueueFullError: if too many wait already.
        """
        n = len(features)
        most = features.meta["max_seq_length"]
        width = np.minimum(-(-features.lengths // _GRAIN) * _GRAIN, most).tolist()
        job = _Job(features, width, sorted(range(n), key=width.__getitem__), n, time.monotonic())
        if not n:
            job.future.set_result([])
            return job.future
        with self._changed:
            if self._closing:
                raise QueueFullError("the server is ending")
            if (n_waiting := self.n_waiting) + n > self._max_waiting:
                raise QueueFullError(f"{n_waiting} windows wait already")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Compute what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (rows := self._next()) is not None:
            began = time.monotonic()
            try:
                self._compute(rows)
            except Exception as error:  # whatever it is: those who wait must hear of it, and the others go on
                for job in {id(job): job for job, _ in rows}.values():
                    job.waiting.clear()
                    with contextlib.suppress(InvalidStateError):  # who asked does not wait any more
                        job.future.set_exception(error)
            self._watch(len(rows), time.monotonic() - began)

    def _next(self) -> list[tuple[_Job, int]] | None:
        """Wait for windows, and return those of the next batch; None when there are to be no more."""
        with self._changed:
            while True:
                self._jobs = [job for job in self._jobs if job.waiting and not job.future.cancelled()]
                if not self._jobs:
                    if self._closing:
                        return None
                    self._changed.wait()
                    continue
                left = self._jobs[0].arrived_s + self._wait_s - time.monotonic()
                if left <= 0 or self._closing or self.n_waiting >= self._batch_size:
                    return self._take()
                self._changed.wait(left)

    def _take(self) -> list[tuple[_Job, int]]:
        """Take the windows of a batch: of each request in turn, those about as long as the oldest's next one."""
        oldest = self._jobs[0]
        width = oldest.width[oldest.waiting[0]]
        least, most = width / _LIKE, width * _LIKE
        alike = [[(job, w) for w in job.waiting if least <= job.width[w] <= most] for job in self._jobs]
        rows = [row for turn in zip_longest(*alike) for row in turn if row is not None][: self._batch_size]
        for job, window in rows:
            job.waiting.remove(window)
        return rows

    def _compute(self, rows: Sequence[tuple[_Job, int]]) -> None:
        """Run the model on some windows, and give each request its own."""
        jobs = {id(job): job for job, _ in rows}
        own = [(job, [window for other, window in rows if other is job]) for job in jobs.values()]
        width = max(job.width[window] for job, window in rows)
        parts = [widened(job.features, collate(job.features, windows), width) for job, windows in own]
        index = np.arange(len(rows), dtype=np.int32)
        inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs}
        (outputs,) = self._run([Batch(index, index, inputs, {})])
        first = 0
        for (job, _), part in zip(own, parts, strict=True):
            share = slice(first, first + len(part))
            values = {name: value[share] for name, value in outputs.values.items()}
            job.outputs.append(unpadded(job.features, Outputs(part.window, values)))
            first, job.n_left = share.stop, job.n_left - len(part)
            if not job.n_left and job.future.set_running_or_notify_cancel():
                job.future.set_result(job.outputs)
