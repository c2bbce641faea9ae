"""The process that trains a cell: `train`, once its forerunner has let go of the seed; it ends with its parent.

    python -m experiment.grid.worker PARENT DIRECTORY train …

PARENT is the process that waits for this one, and DIRECTORY the seed's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from preprocess.base.files import locked

#: For so long a forerunner may write its last training checkpoint.
_PATIENCE_S = 300.0
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Train a cell.

    Returns:
        the exit status of `train`.
    """
    parent, directory, *command = arguments
    _end_with(int(parent))
    _wait_for(Path(directory))
    from experiment.cli import main as run

    return run(command)


def _end_with(parent: int) -> None:
    """Have this process get SIGTERM when its parent dies, even by SIGKILL: a seed must not be held by an orphan."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(128 + signal.SIGTERM)


def _wait_for(directory: Path) -> None:
    """Wait until nobody holds the directory; in the end `train` complains of who still does."""
    until = time.monotonic() + _PATIENCE_S
    while directory.is_dir() and time.monotonic() < until:
        try:
            with locked(directory):
                return
        except BlockingIOError:
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
