"""Standard output and error that may end: a pipe whose reader has gone, a full disk, a closed terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class OutputError(OSError):
    """Standard output can't be written; an OSError could be of any file, and rich ends the program for some."""


class _Stream:
    """A stream whose errors are `OutputError`s; an unfailing one has none, and loses what can't be written."""

    def __init__(self, stream: TextIO, unfailing: bool) -> None:
        self._stream = stream
        self._unfailing = unfailing

    def write(self, text: str) -> int:
        with self._handling():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._handling():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _handling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._unfailing:
                raise OutputError(error.errno, error.strerror) from None


@contextlib.contextmanager
def standard_streams(*, unfailing: bool) -> Iterator[None]:
    """Let errors of standard output be `OutputError`s, while the block runs.

    Args:
        unfailing: ignore them instead, those of standard error as well: what is said is not worth what is done.
    """
    before = sys.stdout, sys.stderr
    if sys.stdout is not None:
        sys.stdout = cast(TextIO, _Stream(sys.stdout, unfailing))
    if sys.stderr is not None and unfailing:
        sys.stderr = cast(TextIO, _Stream(sys.stderr, unfailing))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def hold_descriptors() -> None:
    """Open what the program was started without, as nowhere: else the next file would be standard output.

    Programs that this one starts inherit them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


def say(text: str) -> None:
    """Print a line on standard error, if that is possible."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def settle() -> OSError | None:
    """Write out what the streams still hold; what can't be written goes nowhere.

    The interpreter would try once more when it ends, and complain.

    Returns:
        why standard output could not be written.
    """
    problems = [_settled(stream) for stream in (sys.stdout, sys.stderr)]
    return problems[0]


def _settled(stream: TextIO | None) -> OSError | None:
    if stream is None:
        return None
    try:
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return error
    return None
