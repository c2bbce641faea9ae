"""Others who start the processes that train cells: Ray, and Slurm by submitit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiment.grid.cells import LOGS, Cell
from experiment.grid.executors import KILLED, LOOK_EVERY_S, Worker, train_cell
from experiment.launch import ROOT
from preprocess.base.errors import UsageError

#: Seconds in which Ray's cells write their last training checkpoints.
_PATIENCE_S = 300.0


class Ray:
    """A Ray cluster: a plain remote task for each cell, which Ray is not to repeat."""

    def __init__(self, gpus: float | None, cpus: int, options: Mapping[str, Any]) -> None:
        """Join the cluster that RAY_ADDRESS names, or start one on this machine.

        Args:
            gpus: of each cell; None for one, if the cluster has any.
            cpus: of each cell.
            options: of ray.init.

        Raises:
            UsageError: if Ray is not installed.
        """
        try:
            import ray
        except ImportError:
            raise UsageError("--executor ray needs Ray: pip install 'chinese-mrc[ray]'") from None
        self._ray = ray
        handler = signal.getsignal(signal.SIGTERM)
        runtime = {"env_vars": {"PYTHONPATH": str(ROOT)}}
        try:
            ray.init(**{"log_to_driver": False, "runtime_env": runtime, "ignore_reinit_error": True, **options})
        except (RuntimeError, ValueError, ConnectionError) as error:
            raise UsageError(f"--executor ray: {error}; see --executor_options") from None
        signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process without a word to the workers
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
        self._train = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(train_cell)
        self._cells: dict[Any, Cell] = {}

    def add(self, cell: Cell) -> None:
        """Submit a cell."""
        self._cells[self._train.remote(cell, os.getcwd())] = cell

    def ended(self) -> list[tuple[Cell, int]]:
        """Return the cells whose tasks have ended, or were lost with their node."""
        if not self._cells:
            return []
        done, _ = self._ray.wait(list(self._cells), num_returns=1, timeout=LOOK_EVERY_S)
        return [(self._cells.pop(task), self._status(task)) for task in done]

    def _status(self, task: Any) -> int:
        try:
            return int(self._ray.get(task))
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OSError):
                raise UsageError(f"--executor ray: {error.cause}; all its machines need the same disk") from None
            raise  # a fault of ours, and not of a node
        except self._ray.exceptions.RayError:
            return KILLED

    def stop(self) -> None:
        """Interrupt all tasks, wait for them, and leave the cluster."""
        for task in self._cells:
            self._ray.cancel(task)
        self._ray.wait(list(self._cells), num_returns=len(self._cells), timeout=_PATIENCE_S)
        self._ray.shutdown()


@dataclass
class Job:
    """What submitit runs: a cell, and how it goes on after a time limit or a preemption."""

    cell: Cell
    place: str
    worker: Worker | None = field(default=None, compare=False)

    def __call__(self) -> int:
        """Train the cell and return the exit status of its process."""
        self.worker = Worker(self.cell, self.place)
        try:
            return self.worker.wait()
        finally:
            self.worker.stop()
            self.worker.wait()

    def checkpoint(self) -> Any:
        """End the process, which writes a training checkpoint, and have the job submitted once more."""
        from submitit.helpers import DelayedSubmission

        if self.worker is not None:
            self.worker.stop()
            self.worker.wait()
        return DelayedSubmission(Job(self.cell, self.place))


class Submitit:
    """Slurm, or whatever submitit's AutoExecutor finds: a job for each cell."""

    def __init__(self, grid: Path, gpus: float | None, cpus: int, options: Mapping[str, Any]) -> None:
        """Submit from this machine.

        Args:
            grid: the grid's directory; submitit's own files go to its logs.
            gpus: of each job; None for one.
            cpus: of each job.
            options: of AutoExecutor and its parameters.

        Raises:
            UsageError: if submitit is not installed, finds no Slurm, or does not know an option.
        """
        try:
            import submitit
        except ImportError:
            raise UsageError("--executor submitit needs submitit: pip install 'chinese-mrc[slurm]'") from None
        if gpus is not None and not float(gpus).is_integer():
            raise UsageError(f"--gpus_per_cell {gpus:g}: Slurm gives whole GPUs; give a whole number")
        parameters = dict(options)
        try:
            self._executor = submitit.AutoExecutor(grid / LOGS / "submitit", cluster=parameters.pop("cluster", None))
            asked = {"gpus_per_node": 1 if gpus is None else int(gpus), "cpus_per_task": cpus, **parameters}
            self._executor.update_parameters(**asked)
        except (RuntimeError, ValueError, NameError, TypeError) as error:
            raise UsageError(f"--executor submitit: {error}; see --executor_options") from None
        self._failed = submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError
        self._jobs: list[tuple[Any, Cell]] = []

    def add(self, cell: Cell) -> None:
        """Submit a cell."""
        self._jobs.append((self._executor.submit(Job(cell, os.getcwd())), cell))

    def ended(self) -> list[tuple[Cell, int]]:
        """Return the cells whose jobs have ended."""
        time.sleep(LOOK_EVERY_S)
        done = [(job, cell) for job, cell in self._jobs if job.done()]
        self._jobs = [(job, cell) for job, cell in self._jobs if (job, cell) not in done]
        return [(cell, self._status(job)) for job, cell in done]

    def _status(self, job: Any) -> int:
        try:
            return int(job.result())
        except self._failed:
            return KILLED

    def stop(self) -> None:
        """Cancel all jobs."""
        for job, _ in self._jobs:
            job.cancel()
