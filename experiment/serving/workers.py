"""Several processes that listen at one socket, and the one that watches them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from prometheus_client.multiprocess import mark_process_dead

from experiment.io.streams import say

#: A process ends with this when it could not start, which another one could not either.
FAILED = 2
#: Processes that end this often in a minute do not live.
_MOST_ENDS = 5
_MINUTE_S = 60.0


def watch(n_processes: int, work: Callable[[], None], directory: str, patience_s: float) -> int:
    """Keep so many processes working until this one is interrupted.

    Args:
        n_processes: how many.
        work: what each does; it ends its process.
        directory: in which they count.
        patience_s: seconds that they may take to end.

    Returns:
        0 when interrupted, 2 if they can't start, or don't live.
    """
    context = multiprocessing.get_context("spawn")

    def begin() -> SpawnProcess:
        process = context.Process(target=work, daemon=True)
        process.start()
        return process

    processes = [begin() for _ in range(n_processes)]
    ends: list[float] = []
    try:
        while True:
            wait([process.sentinel for process in processes])
            for ended in [process for process in processes if not process.is_alive()]:
                processes.remove(ended)
                if ended.exitcode == FAILED:
                    return FAILED
                mark_process_dead(ended.pid, directory)
                ends = [*(at for at in ends if at > time.monotonic() - _MINUTE_S), time.monotonic()]
                if len(ends) > _MOST_ENDS:
                    say(f"error: {len(ends)} processes have ended within a minute, the last with {ended.exitcode}")
                    return FAILED
                say(f"a process has ended with {ended.exitcode}; another one begins")
                processes.append(begin())
    except KeyboardInterrupt:
        return 0
    finally:
        _end(processes, patience_s)


def end_with_parent() -> None:
    """End this process when the one that watches it has gone without a word, as when the machine has killed it."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only what `watch` begins has a parent"

    def follow() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="parent", daemon=True).start()


def _end(processes: list[SpawnProcess], patience_s: float) -> None:
    """Tell processes to end, and end those that do not."""
    for process in processes:
        process.terminate()
    try:
        wait_until = time.monotonic() + patience_s
        for process in processes:
            process.join(max(0.0, wait_until - time.monotonic()))
    except KeyboardInterrupt:  # a second one: whoever interrupts does not wait
        pass
    for process in processes:
        process.kill()
        process.join()
