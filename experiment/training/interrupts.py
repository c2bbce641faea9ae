"""SIGINT and SIGTERM that wait for a moment at which nothing is lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def held_back() -> Iterator[Callable[[], bool]]:
    """Only note the first SIGINT or SIGTERM while the block runs; the second one interrupts at once.

    Yields:
        whether one has come. A block that never asks is interrupted when it ends.
    """
    came: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    # Other threads get no signals and may not set handlers.
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.signal(number, note) for number in signals}
    try:
        yield lambda: bool(came)
        if came:
            raise KeyboardInterrupt
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
