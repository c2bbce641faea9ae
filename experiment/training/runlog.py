"""What a run says: lines and progress bars on the terminal, lines in an append-only file, TensorBoard events."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from experiment.io.events import EventFile
from experiment.io.terminal import Bars, terminal


class RunLog:
    """Prints lines and appends them, with the time of day, to a file that is never truncated."""

    def __init__(self, path: Path | None) -> None:
        """Append to `path`; with None say nothing anywhere."""
        self.console = terminal(quiet=path is None)
        self.bars = Bars(self.console)
        self._path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def line(self, text: str) -> None:
        """Print one line and append it to the file, if the disk has room for it."""
        self.console.print(text)
        if self._path is None:
            return
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n"
        with contextlib.suppress(OSError), self._path.open("ab") as file:
            file.write(line.encode("utf-8", "backslashreplace"))


class Events:
    """TensorBoard events of one seed."""

    def __init__(self, directory: Path | None, first_step: int, say: Callable[[str], None]) -> None:
        """Write under `directory`; what is there of `first_step` and later ones is not shown any more.

        Args:
            directory: with None nothing is written.
            first_step: the first one that these events are of.
            say: gets a line if the disk has no room for them, which ends the events and not the training.
        """
        self._file: EventFile | None = None
        self._say = say
        with self._ending_at(first_step):
            self._file = EventFile(directory, first_step) if directory is not None else None

    def add(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Record scalars under `group/name`."""
        with self._ending_at(step):
            if self._file is not None:
                self._file.add({f"{group}/{name}": value for name, value in values.items()}, step)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    @contextlib.contextmanager
    def _ending_at(self, step: int) -> Iterator[None]:
        """Let an error of the file be its end."""
        try:
            yield
        except OSError as error:
            self.close()
            self._file = None
            self._say(f"no more events for TensorBoard from step {step} on ({error}); training goes on")
