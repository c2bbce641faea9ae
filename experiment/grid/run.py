"""The cells of a grid are trained, and what becomes of each is said; who does it is the executor's."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from experiment.grid.cells import Cell
from experiment.grid.clusters import Ray, Submitit
from experiment.grid.executors import Executor, Local
from experiment.grid.status import FAILED, FINISHED, CellProgress, progress_of, summary
from experiment.launch import visible_gpus
from experiment.options.flags import GridOptions
from preprocess.base.errors import UsageError
from preprocess.base.files import locked

#: So often a cell is begun once more whose process was killed.
_MOST_RESTARTS = 3


def train_cells(
    cells: Sequence[Cell], options: GridOptions, say: Callable[[str], None], executor: Executor | None = None
) -> None:
    """Train cells; a line is said of each that has ended.

    Args:
        cells: all of the grid; those that are finished are passed over, and those that have failed unless
            --retry_failed says otherwise.
        options: of the grid.
        say: gets the lines.
        executor: trains them; None for what the options ask for.

    Raises:
        KeyboardInterrupt: for Ctrl-C and SIGTERM, when the workers have written their training checkpoints.
        UsageError: if the executor can't be had.
    """
    progress = {cell: progress_of(cell) for cell in cells}
    passed_over = (FINISHED,) if options.retry_failed else (FINISHED, FAILED)
    left = [cell for cell in cells if progress[cell].state not in passed_over]
    # What was begun is brought to its end first.
    left.sort(key=lambda cell: -progress[cell].n_steps)
    say(summary(progress))
    if not left:
        return
    executor = executor or executor_of(options)
    n_restarts: Counter[Cell] = Counter()
    try:
        for cell in left:
            executor.add(cell)
        while left:
            for cell, status in executor.ended():
                progress[cell] = progress_of(cell)
                if status < 0 and progress[cell].state != FINISHED and n_restarts[cell] < _MOST_RESTARTS:
                    n_restarts[cell] += 1
                    say(f"{cell.name}: its process was killed by signal {-status}; it goes on")
                    executor.add(cell)
                    continue
                left.remove(cell)
                say(_line(cell, progress))
    except BaseException:
        say("ending the workers, which write training checkpoints first")
        executor.stop()
        raise
    executor.stop()


def executor_of(options: GridOptions) -> Executor:
    """Return who is to train.

    Raises:
        UsageError: if that can't be had.
    """
    asked = _asked(options.executor_options)
    if options.executor == "ray":
        return Ray(options.gpus_per_cell, options.cpus_per_cell, asked)
    if options.executor == "submitit":
        return Submitit(options.output_dir, options.gpus_per_cell, options.cpus_per_cell, asked)
    return Local(options.devices or visible_devices())


def visible_devices() -> list[str]:
    """Return the GPUs that processes of this one would see, as CUDA_VISIBLE_DEVICES takes them; else "cpu"."""
    visible = visible_gpus()
    if visible is not None:
        return visible or ["cpu"]
    return [str(number) for number, _ in enumerate(gpu_names())] or ["cpu"]


def gpu_names() -> list[str]:
    """Return the names of this machine's GPUs, as their driver tells them; none without one."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


@contextlib.contextmanager
def alone(grid: Path) -> Iterator[None]:
    """Hold the directory of a grid for this process.

    Raises:
        UsageError: if another process trains a grid in it.
    """
    grid.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(grid))
        except BlockingIOError:
            raise UsageError(
                f"--output_dir {grid}: another grid command works there; --status shows how far it is"
            ) from None
        yield


def _line(cell: Cell, progress: dict[Cell, CellProgress]) -> str:
    each = progress[cell]
    n_ended = sum(other.state in (FINISHED, FAILED) for other in progress.values())
    what = f"{each.state} ({each.error}; {cell.log})" if each.state == FAILED else each.state
    took = f" in {each.wall_s / 60:.1f} min" if each.state == FINISHED else ""
    return f"[{n_ended}/{len(progress)}] {cell.name}: {what}{took}"


def _asked(options: Sequence[str]) -> dict[str, int | str]:
    """Return NAME=VALUE pairs; whole numbers as such.

    Raises:
        UsageError: for what is no such pair.
    """
    asked: dict[str, int | str] = {}
    for text in options:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(f"--executor_options {text}: NAME=VALUE was expected")
        asked[name] = int(value) if value.isdecimal() else value
    return asked
