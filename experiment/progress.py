"""Progress bars on a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


class Bars:
    """Progress bars below what is printed, those of inner blocks last; nothing where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        """Show them on the console, which the program prints to meanwhile."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    @contextlib.contextmanager
    def counting(self, description: str, total: int, done: int = 0) -> Iterator[Callable[[], None]]:
        """Show a bar while the block runs; yields what is to be called for each of `total` that is done."""
        task = self._bars.add_task(description, total=total, completed=done)
        self._bars.start()
        try:
            yield lambda: self._bars.advance(task)
        finally:
            self._bars.remove_task(task)
            if not self._bars.tasks:
                self._bars.stop()

    def tracked(self, description: str, items: Sequence[T]) -> Iterator[T]:
        """Yield the items and show a bar meanwhile; one counts as done when the next is asked for."""
        with self.counting(description, len(items)) as advance:
            for item in items:
                yield item
                advance()
