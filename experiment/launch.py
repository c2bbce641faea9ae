"""How this process was started: by which program, and as which of several."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

#: What the program may be called: the file in the checkout, and what an installation puts on the PATH.
PROGRAMS = ("run_mrc.py", "chinese-mrc")


@dataclass(frozen=True, slots=True)
class Launch:
    """What a launcher has told this process.

    Args:
        rank: number of this process, from 0; process 0 alone speaks and writes files.
        size: number of processes.
        restart_count: how often the launcher has started them again after one of them had ended.
    """

    rank: int = 0
    size: int = 1
    restart_count: int = 0


def launched() -> Launch:
    """Read what torchrun has told this process; without torchrun it is alone.

    This is the only reader of the launcher's environment, apart from the frameworks: torch finds its rendezvous in
    it, and TensorFlow its cluster (TF_CONFIG).
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Launch()
    return Launch(
        rank=int(os.environ["RANK"]),
        size=int(os.environ["WORLD_SIZE"]),
        restart_count=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
    )


def program() -> str:
    """Return what messages call the program: as it was called."""
    name = Path(sys.argv[0]).name
    return name if name in PROGRAMS else PROGRAMS[0]
