"""Run the program in a process that kills itself, or fails, at a chosen call of a chosen function."""

from __future__ import annotations

import errno
import importlib
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any


def kill(*_arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tear(path: Path, *_arguments: Any) -> None:
    """Write a third of a file under its final name, and die."""
    Path(path).write_bytes(b"\0" * 10_000)
    kill()


def fill_disk(*_arguments: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def terminate(*_arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def program(flags: list[str], place: str = "", call: int = 0, fault: str = "kill") -> None:
    """Run the program; `fault` happens instead of (`terminate`: before) one call of "module:attribute".

    Every training checkpoint waits until the one before is written, where the program would put it off: which of them
    exist when the fault happens does not depend on the speed of the disk.

    Args:
        flags: of the command line.
        place: the function, as its user names it.
        call: which call, from 1.
        fault: one of this module's functions.
    """
    from experiment.cli import main
    from experiment.training.checkpoints import Checkpoints

    Checkpoints.busy = False  # type: ignore[assignment, method-assign]
    if place:
        module_name, _, path = place.partition(":")
        *parents, name = path.split(".")
        owner: Any = importlib.import_module(module_name)
        for parent in parents:
            owner = getattr(owner, parent)
        original, n_calls = getattr(owner, name), 0

        def faulty(*arguments: Any, **keywords: Any) -> Any:
            nonlocal n_calls
            n_calls += 1
            if n_calls == call:
                globals()[fault](*arguments)
            return original(*arguments, **keywords)

        setattr(owner, name, faulty)
    raise SystemExit(main(flags))


def server(*modules: str) -> Any:
    """Return a multiprocessing context whose processes have imported the modules before they start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*modules, "tests.support.frozen"])
    return context
