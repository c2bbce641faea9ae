"""What a seed says of its training: lines and TensorBoard, a profile, and what goes wrong without an exception."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from experiment.backend import by_first
from experiment.training.guards import Divergence, nonfinite_steps
from experiment.training.hooks import Hook
from experiment.training.state import APART

if TYPE_CHECKING:
    from experiment.training.mixture import Draw
    from experiment.training.seed import SeedRun

#: Steps of a process that --profile records: what the first ones compile and allocate is not among them.
_PROFILED = range(5, 8)
#: A metric that is not worth a place in the log.
_NONE_SKIPPED = ("skipped_steps", 0.0)


class TrainingLog(Hook):
    """Says every few steps, and before each evaluation, how training goes; stops it where it goes nowhere."""

    def attach(self, run: SeedRun) -> None:
        """Learn what a model that knows nothing would lose."""
        sources = run.steps.mixture.sources
        n_windows = [len(source.data.features) for source in sources]
        chances = [source.task.problem.chance(source.data.features) for source in sources]
        mean = sum(n * chance for n, chance in zip(n_windows, chances, strict=True)) / sum(n_windows)
        self.divergence = Divergence(chances[0] if len(sources) == 1 else mean)

    def after_step(self, run: SeedRun) -> None:
        """Log, where a line is due."""
        step = run.progress.step
        if step in run.steps.evaluated or step % run.setup.options.logging_steps == 0:
            self._log(run)

    def state_dict(self) -> dict[str, Any]:
        """Return what has been noticed of divergence."""
        return asdict(self.divergence)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it over."""
        self.divergence = Divergence(**state)

    def _log(self, run: SeedRun) -> None:
        progress, step = run.progress, run.progress.step
        metrics = run.trainer.metrics()
        # After the device has caught up.
        metrics |= run.meter.line() | {"peak_gb": run.peak_bytes() / 1e9}
        run.curves.add("train", metrics, step)
        progress.n_skipped += int(metrics["skipped_steps"])
        n_steps, progress.n_logged = step - progress.n_logged, step
        told = [(name, value) for name, value in metrics.items() if (name, value) != _NONE_SKIPPED]
        if metrics.get("answered") == 1.0:
            told = [(name, value) for name, value in told if name not in APART]
        values = " ".join(f"{name} {value:.0f}" if value >= 1000 else f"{name} {value:.4g}" for name, value in told)
        run.log.line(f"seed {run.seed} step {step}/{run.steps.n} {values}")
        if "loss" in metrics:
            progress.losses.append((n_steps, {name: metrics[name] for name in ("loss", *APART) if name in metrics}))
            if self.divergence.notices(metrics["loss"]):
                run.warn(f"training has diverged: loss {metrics['loss']:.3g} at step {step} is that of chance")
        self._stop_where_nothing_moves(run)

    def _stop_where_nothing_moves(self, run: SeedRun) -> None:
        """Raise TrainingError, in all processes, after too many steps in a row without effect."""
        step, n_skipped = run.progress.step, run.trainer.skipped_in_a_row
        nothing_new = step in run.steps.evaluated and not run.progress.losses
        if nothing_new or n_skipped >= run.setup.options.max_nonfinite_steps:
            first = step - n_skipped + 1
            draws = list(itertools.islice(run.steps.draws(first - 1), n_skipped))
            raise by_first(run.setup.group, lambda: nonfinite_steps(run.directory, first, draws))


class Profile(Hook):
    """Records a trace of a few steps."""

    looks_on = True

    def begin(self, run: SeedRun) -> None:
        """Say so where too few steps are left."""
        self._n_steps = 0
        self._recording = contextlib.ExitStack()
        if run.steps.n - run.progress.step <= _PROFILED.start:
            run.log.line(f"seed {run.seed}: no profile, which begins after {_PROFILED.start} steps")

    def before_step(self, run: SeedRun, draw: Draw) -> None:
        """Begin, in time."""
        if self._n_steps == _PROFILED.start and run.writes:
            with run.meter.stopped():
                self._recording.enter_context(run.setup.backend.profiler(run.directory / "profile"))

    def after_step(self, run: SeedRun) -> None:
        """End, in time."""
        self._n_steps += 1
        if self._n_steps == _PROFILED.stop:
            self.end(run)

    def end(self, run: SeedRun) -> None:
        """Write the trace, if one is being recorded."""
        with run.meter.stopped():
            self._recording.close()
