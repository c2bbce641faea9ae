"""How this process was started: by which program, and as which of several."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: The directory that `import experiment` finds the package in.
ROOT = Path(__file__).resolve().parents[1]
#: What a container's processes may use of the processors: microseconds, and of how many, or "max".
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
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


def visible_gpus() -> list[str] | None:
    """Return the GPUs that this process was told to use, as CUDA_VISIBLE_DEVICES names them; None if not told."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if visible is None else [name for name in visible.split(",") if name.strip() not in ("", "-1")]


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that imports this checkout, as this one does.

    Args:
        variables: what it gets beside the variables of this process.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(paths)}


def environment_apart() -> dict[str, str]:
    """Return the environment of a process that imports what is installed, and what lies beside it, alone."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def secret(variable: str) -> str:
    """Return what a variable of the environment holds, such as a key; "" where it is not set."""
    return os.environ.get(variable, "").strip()


def share(n_processes: int, metrics: Path) -> None:
    """Let the processes that this one starts share the machine and a directory.

    Args:
        n_processes: how many there will be; each computes with its part of the processors, unless OMP_NUM_THREADS
            says otherwise.
        metrics: directory in which they count, for prometheus_client.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // n_processes)))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)


def n_threads() -> int:
    """Return how many threads a process may compute with: OMP_NUM_THREADS, else the processors that it may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdecimal() and int(asked):
        return int(asked)
    return max(1, min(len(os.sched_getaffinity(0)), _quota()))


def _quota() -> int:
    """Return how many processors' time a container may use, rounded up; many where nothing limits it."""
    try:
        used, _, period = _QUOTA.read_text().partition(" ")
        return -(-int(used) // int(period))
    except (OSError, ValueError):  # no control groups of the second version, or "max"
        return sys.maxsize


def program() -> str:
    """Return what messages call the program: as it was called."""
    name = Path(sys.argv[0]).name
    return name if name in PROGRAMS else PROGRAMS[0]
