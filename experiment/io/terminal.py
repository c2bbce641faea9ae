"""The terminal: consoles that print text as it is, and progress bars."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


def terminal(*, quiet: bool = False, breaks_lines: bool = False) -> Console:
    """Return a console on standard output, which takes no text for markup or the code of an emoji.

    Args:
        quiet: print nothing.
        breaks_lines: at the terminal's width, for what stands in frames; otherwise no line is broken.
    """
    return Console(highlight=False, soft_wrap=not breaks_lines, markup=False, emoji=False, quiet=quiet)


def warn(lines: Iterable[str]) -> None:
    """Print lines on standard error, where they are in the way of nobody who pipes the results."""
    for line in lines:
        print(f"warning: {line}", file=sys.stderr, flush=True)


def progress_bars(console: Console, *columns: ProgressColumn, transient: bool = False) -> Progress:
    """Return bars that the console shows if it is a terminal: a description, the bar, and the columns.

    Messages go above them only if both are on a terminal: what is redirected to a file goes there.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        console=console,
        transient=transient,
        disable=console.quiet or not console.is_terminal,
        redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
    )


class Bars:
    """Progress bars below what is printed, those of inner blocks last; nothing where the output is no terminal.

    As a context manager it leaves no bar, whatever happens inside.
    """

    def __init__(self, console: Console) -> None:
        """Show them on the console, which the program prints to meanwhile."""
        self._bars = progress_bars(console, MofNCompleteColumn(), TimeRemainingColumn(), transient=True)

    def __enter__(self) -> Bars:
        """Return the bars."""
        return self

    def __exit__(self, *error: object) -> None:
        """Remove every bar."""
        for task in self._bars.task_ids:
            self._remove(task)

    @contextlib.contextmanager
    def counting(self, description: str, total: int, done: int = 0) -> Iterator[Callable[[], None]]:
        """Show a bar while the block runs; yields what is to be called for each of `total` that is done."""
        task = self._bars.add_task(description, total=total, completed=done)
        self._bars.start()
        try:
            yield lambda: self._bars.advance(task)
        finally:
            self._remove(task)

    def tracked(self, description: str, items: Sequence[T]) -> Iterator[T]:
        """Yield the items and show a bar meanwhile; one counts as done when the next is asked for."""
        with self.counting(description, len(items)) as advance:
            for item in items:
                yield item
                advance()

    def _remove(self, outer: TaskID) -> None:
        """Remove a bar, and those of inner blocks: a `tracked` that an error left ends when its traceback goes."""
        if outer not in self._bars.task_ids:
            return
        for task in self._bars.task_ids:
            if task >= outer:
                self._bars.remove_task(task)
        if not self._bars.tasks:
            self._bars.stop()
