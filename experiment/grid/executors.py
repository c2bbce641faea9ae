"""The processes that train cells, and who starts them on this machine; `clusters` has those who do elsewhere.

All of them do the same with a cell: a process of its own that runs `train`, whose output goes to the cell's log. What
has become of the cell stands in its run directory, and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from experiment.grid.cells import Cell
from experiment.grid.status import exit_line
from experiment.launch import environment_with

#: Status of a cell whose process did not live to tell one.
KILLED = -signal.SIGKILL
#: Seconds between two looks at who has ended.
LOOK_EVERY_S = 0.1


class Executor(Protocol):
    """Trains cells, each in a process of its own."""

    def add(self, cell: Cell) -> None:
        """Train a cell, when there is room for it."""

    def ended(self) -> list[tuple[Cell, int]]:
        """Wait a moment; return the cells whose processes have ended since, with exit status (-N: by signal N)."""

    def stop(self) -> None:
        """Start no more, let those that run write a training checkpoint and end, and wait for them."""


class Worker:
    """A process that trains a cell, seen from the one that has started it."""

    def __init__(self, cell: Cell, place: str = "", environment: Mapping[str, str] | None = None) -> None:
        """Start it.

        Args:
            cell: what it trains.
            place: the directory that relative paths start at; "" for that of this process.
            environment: variables that it gets beside those of this process.
        """
        self.cell = cell
        log = Path(place) / cell.log
        log.parent.mkdir(parents=True, exist_ok=True)
        # Not in the terminal's group: Ctrl-C is to reach the workers by `stop`, once.
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "experiment.grid.worker", str(os.getpid()), str(cell.directory)),
                *cell.arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=place or None,
            env=environment_with(environment or {}),
            start_new_session=True,
        )
        self._say(f"{time.strftime('%Y-%m-%d %H:%M:%S')} started {' '.join(cell.arguments)}\n")

    def status(self) -> int | None:
        """Return its exit status, None while it runs."""
        status = self._process.poll()
        if status is not None and not self._log.closed:
            self._say(exit_line(status))
            self._log.close()
        return status

    def stop(self) -> None:
        """Have it write a training checkpoint and end; a second time, end at once."""
        self._process.terminate()

    def wait(self) -> int:
        """Return its exit status when it has ended."""
        while (status := self.status()) is None:
            time.sleep(LOOK_EVERY_S)
        return status

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk ends what is said, not what is done
            self._log.write(text.encode("utf-8", "backslashreplace"))
            self._log.flush()


def train_cell(cell: Cell, place: str) -> int:
    """Train a cell in a process of its own, and return its exit status."""
    worker = Worker(cell, place)
    try:
        return worker.wait()
    except BaseException:
        worker.stop()
        worker.wait()
        raise


class Local:
    """This machine: one cell at a time on each device."""

    def __init__(self, devices: Sequence[str]) -> None:
        """Train on these devices.

        Args:
            devices: numbers (or names, as CUDA_VISIBLE_DEVICES takes them) of GPUs, or "cpu".
        """
        self._free = list(devices)
        self._queue: deque[Cell] = deque()
        self._running: dict[Worker, str] = {}

    def add(self, cell: Cell) -> None:
        """Train a cell, when a device is free."""
        self._queue.append(cell)

    def ended(self) -> list[tuple[Cell, int]]:
        """Give free devices their cells, and return those whose processes have ended."""
        while self._free and self._queue:
            device = self._free.pop(0)
            visible = {"CUDA_VISIBLE_DEVICES": "" if device == "cpu" else device}
            self._running[Worker(self._queue.popleft(), environment=visible)] = device
        time.sleep(LOOK_EVERY_S)
        ended = [(worker, status) for worker in self._running if (status := worker.status()) is not None]
        self._free += [self._running.pop(worker) for worker, _ in ended]
        return [(worker.cell, status) for worker, status in ended]

    def stop(self) -> None:
        """End all workers; a second interruption meanwhile ends them at once."""
        self._queue.clear()
        for worker in self._running:
            worker.stop()
        try:
            for worker in self._running:
                worker.wait()
        except KeyboardInterrupt:
            for worker in self._running:
                worker.stop()
            for worker in self._running:
                worker.wait()
