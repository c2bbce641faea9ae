"""The training checkpoints of a seed: when they are written, and what in them is not the trainer's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from experiment.training.checkpoints import Checkpoints
from experiment.training.hooks import Hook, hook_states
from experiment.training.state import Progress
from preprocess.base.errors import UsageError

if TYPE_CHECKING:
    from experiment.training.seed import SeedRun

#: Changes with the form of the state.
_LAYOUT = 2
#: Seconds between training checkpoints, where --save_steps does not say how many steps.
_SAVE_EVERY_S = 600


class Saving(Hook):
    """Saves when it is due, and when a signal comes, which ends the seed."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        """Write there; used by the first process alone."""
        self._checkpoints = checkpoints
        self._due = False
        self._saved_at = time.perf_counter()

    def begin(self, run: SeedRun) -> None:
        """End here if a signal has come."""
        self.stop_if_interrupted(run)

    def after_step(self, run: SeedRun) -> None:
        """Save a training checkpoint; later, if the one before is still being written."""
        self.stop_if_interrupted(run)
        every, step = run.setup.options.save_steps, run.progress.step
        if run.setup.options.saves_by_time:
            late = time.perf_counter() - self._saved_at > _SAVE_EVERY_S
            self._due |= late or step in run.steps.evaluated
        else:
            self._due |= every > 0 and step % every == 0
        if run.setup.group.first(self._due and not self._checkpoints.busy):
            self._save(run)

    def wait(self) -> None:
        """Return when nothing is being written any more."""
        self._checkpoints.wait()

    def stop_if_interrupted(self, run: SeedRun) -> None:
        """Save and raise KeyboardInterrupt if a signal has come to any process."""
        if run.interrupted():
            self._save(run)
            self.wait()
            run.setup.group.first(None)  # no process ends, and with it the others, before the checkpoint is written
            raise KeyboardInterrupt

    def _save(self, run: SeedRun) -> None:
        with run.meter.stopped():
            run.progress.wall_s = run.wall_s
            state = {
                "layout": _LAYOUT,
                "trainer": run.trainer.state_dict(),
                "progress": run.progress.state_dict(),
                "hooks": hook_states(run.hooks),
                "versions": run.record.versions,
                "config": run.record.config,
                "hashes": run.record.hashes,
                "task_version": run.record.task_version,
                "device": run.record.device,
                "n_devices": run.record.n_devices,
            }
            if run.writes:
                self._checkpoints.save(run.progress.step, state)
            self._saved_at, self._due = time.perf_counter(), False


def progress_of(state: dict[str, Any]) -> Progress:
    """Return what a training checkpoint has counted.

    Raises:
        UsageError: if it is of another form than this version's.
    """
    if state.get("layout") != _LAYOUT:
        raise UsageError(
            f"the training checkpoints in --output_dir have the form {state.get('layout', 1)} and this version of "
            f"the toolkit reads {_LAYOUT}; go on with the version that wrote them, or give --overwrite_output_dir"
        )
    return Progress.of(state["progress"])
