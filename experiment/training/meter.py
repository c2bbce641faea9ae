"""How fast a seed trains."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from experiment.estimate.hardware import training_flops
from pretrained_configs.config import ModelConfig

_COUNTS = ("n_windows", "n_tokens", "flops", "train_s", "wait_s")


class Meter:
    """Counts what is trained on and the seconds it takes; its clock stands still while a seed evaluates or saves."""

    def __init__(self, config: ModelConfig, counts: dict[str, float]) -> None:
        """Go on counting; the clock stands still.

        Args:
            config: of the model that is trained.
            counts: what has been counted so far, empty at first; it is counted on in this very dict.
        """
        #: What all devices together compute in a second at most; None where it is not known.
        self.peak_flops: float | None = None
        self._config = config
        #: Windows, their real (unpadded) tokens and the FLOPs of these, seconds of training, and those of them
        #: that batches were waited for.
        self.counts = counts
        for name in _COUNTS:
            counts.setdefault(name, 0.0)
        self._at_last_line = dict(self.counts)
        self._clock: float | None = None  # when it was last looked at, while it runs

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let the clock run."""
        self._clock = time.perf_counter()
        yield
        self._tick()
        self._clock = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock, if it runs."""
        runs = self._clock is not None
        self._tick()
        self._clock = None
        yield
        self._clock = time.perf_counter() if runs else None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block as time that training waits for batches."""
        began = time.perf_counter()
        yield
        self.counts["wait_s"] += time.perf_counter() - began

    def count(self, lengths: NDArray[np.integer]) -> None:
        """Count windows that have been trained on, by their lengths in tokens."""
        self.counts["n_windows"] += len(lengths)
        self.counts["n_tokens"] += float(lengths.sum())
        self.counts["flops"] += float(training_flops(self._config, lengths.astype(np.int64)).sum())

    def line(self) -> dict[str, float]:
        """Return the speed since this was last asked for."""
        self._tick()
        before, self._at_last_line = self._at_last_line, dict(self.counts)
        return self._speed({name: self.counts[name] - before[name] for name in _COUNTS})

    def whole(self) -> dict[str, float]:
        """Return the speed of the seed so far.

        Returns:
            "samples_per_s" (windows) and "tokens_per_s"; "data_wait", the share of time that batches were waited for;
            and "mfu", the share of the devices' peak that real tokens made use of, where that peak is known.
        """
        return self._speed(self.counts)

    def summary(self, n_steps: int) -> dict[str, float]:
        """Return what the training of a seed took, under the names that transformers' programs print.

        Args:
            n_steps: that were taken in all.

        Returns:
            "train_runtime", seconds without evaluations; "train_samples_per_second" (windows) and
            "train_steps_per_second".
        """
        seconds = self.counts["train_s"]
        rates = {"samples": self.counts["n_windows"], "steps": n_steps}
        return {"train_runtime": seconds, **{f"train_{name}_per_second": n / seconds for name, n in rates.items()}}

    def _tick(self) -> None:
        if self._clock is None:
            return
        now = time.perf_counter()
        self.counts["train_s"] += now - self._clock
        self._clock = now

    def _speed(self, counts: dict[str, float]) -> dict[str, float]:
        seconds = counts["train_s"]
        speed = {
            "samples_per_s": counts["n_windows"] / seconds,
            "tokens_per_s": counts["n_tokens"] / seconds,
            "data_wait": counts["wait_s"] / seconds,
        }
        if self.peak_flops is not None:
            speed["mfu"] = counts["flops"] / seconds / self.peak_flops
        return speed
