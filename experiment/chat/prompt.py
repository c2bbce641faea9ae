"""Lines of a dialogue: typed at a prompt with a history, or read from a pipe."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from experiment.io.terminal import warn

#: Lines of the history that are kept.
_KEPT = 1000


def typed() -> bool:
    """Tell whether a person types."""
    return sys.stdin is not None and sys.stdin.isatty()


def lines(prompt: Callable[[], str], history: Path | None) -> Iterator[str]:
    """Yield lines until there are no more, or Ctrl-D; Ctrl-C drops what was typed of one.

    Args:
        prompt: says what stands before the next line, where a person types.
        history: file that keeps the lines of a person; None for none.
    """
    if not typed():
        yield from (line.rstrip("\r\n") for line in _piped())
        return
    with _reading(history) as read:
        while True:
            try:
                yield read(prompt())
            except KeyboardInterrupt:
                continue
            except EOFError:
                print()
                return


def _piped() -> Iterable[str]:
    """Return the lines of standard input, in UTF-8 as files are, whatever the terminal's encoding; none if closed."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape")  # who asks refuses what is not UTF-8
    return sys.stdin or ()


@contextlib.contextmanager
def _reading(history: Path | None) -> Iterator[Callable[[str], str]]:
    """Yield what reads a line: of prompt_toolkit where it is installed, else Python's own."""
    if history is not None:
        try:
            history.parent.mkdir(parents=True, exist_ok=True)
            history.touch(mode=0o600)
        except OSError as error:  # a home that can't be written, as in a container, is no reason not to answer
            warn([f"--history {history}: {error.strerror}; what is typed is not kept"])
            history = None
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory, InMemoryHistory
    except ModuleNotFoundError:
        with _readline(history):
            yield input
        return
    yield PromptSession(history=InMemoryHistory() if history is None else FileHistory(str(history))).prompt


@contextlib.contextmanager
def _readline(history: Path | None) -> Iterator[None]:
    try:
        import readline
    except ModuleNotFoundError:  # Python was built without it: input() alone has no history
        yield
        return
    readline.set_history_length(_KEPT)
    if history is not None:
        with contextlib.suppress(OSError):  # of another program, or damaged: it starts anew
            readline.read_history_file(history)
    try:
        yield
    finally:
        if history is not None:
            readline.write_history_file(history)
