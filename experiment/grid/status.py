"""How far the cells of a grid are, from their Records and from what their processes have said last."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from experiment.grid.cells import Cell
from experiment.io.tables import aligned
from experiment.training.record import FILE_NAME, Record, read_record
from preprocess.base.errors import UsageError
from preprocess.base.files import locked

FINISHED, RUNNING, FAILED, INTERRUPTED, WAITING = "finished", "running", "failed", "interrupted", "waiting"
_STATES = (FINISHED, RUNNING, FAILED, INTERRUPTED, WAITING)
#: The last line of a log whose process has ended, and how an error is told in it.
_EXIT = re.compile(r"exit status (-?\d+)")
_ERROR = re.compile(r"(?:process \d+: )?error: (.+)")
#: Bytes of a log that its end is looked for in.
_TAIL = 8192
#: Statuses of processes that were told to stop.
_STOPPED = (0, 130)


@dataclass(frozen=True)
class CellProgress:
    """How far a cell is.

    Args:
        state: one of this module's.
        step: optimizer steps up to its last evaluation.
        n_steps: in all; 0 where that is not known yet.
        wall_s: seconds that it has taken.
        error: why it has failed.
    """

    state: str
    step: int = 0
    n_steps: int = 0
    wall_s: float = 0.0
    error: str = ""


def progress_of(cell: Cell) -> CellProgress:
    """Return how far a cell is."""
    path = cell.directory / FILE_NAME
    try:
        record = read_record(path) if path.is_file() else None
    except UsageError as unreadable:
        return CellProgress(FAILED, error=str(unreadable))
    if record is not None and record.status == FINISHED:
        return CellProgress(FINISHED, record.n_steps, record.n_steps, record.wall_s)
    said = _of_record(record) if record is not None else CellProgress(WAITING)
    status, error = last_exit(cell)
    if status is None and (said.state == RUNNING or cell.log.is_file()) and _is_held(cell):
        return _as(said, RUNNING)
    if status is not None and status not in _STOPPED:
        why = f"its process was killed by signal {-status}" if status < 0 else error or f"exit status {status}"
        return replace(said, state=FAILED, error=said.error or why)
    return said if said.state in (FAILED, WAITING) else _as(said, INTERRUPTED)


def last_exit(cell: Cell) -> tuple[int | None, str]:
    """Return the exit status of the cell's last process, None if it has not ended; and its error, if it told one."""
    try:
        with cell.log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None, ""
    match = _EXIT.fullmatch(lines[-1]) if lines else None
    if match is None:
        return None, ""
    errors = [found[1] for line in lines if (found := _ERROR.match(line))]
    return int(match[1]), errors[-1] if errors else lines[-2] if len(lines) > 1 else ""


def exit_line(status: int) -> str:
    """Return the last line of the log of a process that has ended."""
    return f"exit status {status}\n"


def lines_of(cells: Sequence[Cell], now: float | None = None) -> Iterator[str]:
    """Yield what is to be said of a grid: a row per run, what it lacks, and every failure.

    Args:
        cells: all of them.
        now: seconds since the epoch; None for this moment.
    """
    progress = {cell: progress_of(cell) for cell in cells}
    header = ("run", *_STATES, "steps", "hours")
    rows = []
    for run in dict.fromkeys(cell.run for cell in cells):
        of_run = [progress[cell] for cell in cells if cell.run == run]
        counts = Counter(each.state for each in of_run)
        share = mean(_share(each) for each in of_run)
        hours = sum(each.wall_s for each in of_run) / 3600
        rows.append((run, *(str(counts[state] or "-") for state in _STATES), f"{share:.0%}", f"{hours:.2f}"))
    yield from aligned(header, rows, right=header[1:])
    yield ""
    yield summary(progress, now)
    for cell, each in progress.items():
        if each.state == FAILED:
            yield f"failed: {cell.name}: {each.error} ({cell.log})"


def summary(progress: Mapping[Cell, CellProgress], now: float | None = None) -> str:
    """Return a line on the whole grid, with the time that it will take where that can be told.

    Args:
        progress: of all cells.
        now: seconds since the epoch; None for this moment.
    """
    counts = Counter(each.state for each in progress.values())
    said = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])
    left = remaining_s(progress)
    if not left or not counts[RUNNING]:
        return f"{_of(progress)}: {said}"
    seconds = left / counts[RUNNING]
    ends = time.strftime("%Y-%m-%d %H:%M", time.localtime((time.time() if now is None else now) + seconds))
    return f"{_of(progress)}: {said}; about {seconds / 3600:.2f} hours to go at this rate, until {ends}"


def remaining_s(progress: Mapping[Cell, CellProgress]) -> float | None:
    """Return the seconds that the cells still take, one after another; None before anything is known of their speed.

    A seed takes as long as others of its run, else of its task, else as any.
    """
    known = {cell: each.wall_s / _share(each) for cell, each in progress.items() if each.wall_s and _share(each)}
    if not known:
        return None
    total = 0.0
    for cell, each in progress.items():
        if each.state in (FINISHED, FAILED):
            continue
        like = known.get(cell)
        if like is None:
            same = [seconds for other, seconds in known.items() if other.run == cell.run]
            like = mean(same or known.values())
        total += (1 - _share(each)) * like
    return total


def _of(progress: Mapping[Cell, CellProgress]) -> str:
    return f"{len(progress)} cell{'' if len(progress) == 1 else 's'}"


def _share(progress: CellProgress) -> float:
    return progress.step / progress.n_steps if progress.n_steps else 0.0


def _of_record(record: Record) -> CellProgress:
    step = max((int(entry["step"]) for entry in record.evaluations), default=0)
    return CellProgress(record.status, step, record.n_steps, record.wall_s, record.error)


def _as(progress: CellProgress, state: str) -> CellProgress:
    return replace(progress, state=state, error="")


def _is_held(cell: Cell) -> bool:
    """Whether a process trains the cell now."""
    try:
        with locked(cell.directory):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False
