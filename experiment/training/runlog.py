"""What a run says: lines and progress bars on the terminal, lines in an append-only file, TensorBoard events."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

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
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


class Events:
    """TensorBoard events of one seed, written as they come.

    tensorboardX's SummaryWriter hands events to a thread through a queue; Ctrl-C at the wrong moment leaves that
    thread waiting for ever, and the program with it. Its EventsWriter writes them here and now.
    """

    def __init__(self, directory: Path | None, first_step: int, say: Callable[[str], None]) -> None:
        """Write under `directory`; what is there of `first_step` and later ones is not shown any more.

        Args:
            directory: with None nothing is written.
            first_step: the first one that these events are of.
            say: gets a line if the disk has no room for them, which ends the events and not the training.
        """
        self._writer = None
        self._say = say
        if directory is None:
            return
        _import_tensorboardx()
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        directory.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(directory / "events"))
        restart = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=time.time(), step=first_step, session_log=restart))

    def add(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Record scalars under `group/name`."""
        if self._writer is None:
            return
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        try:
            for name, value in values.items():
                event = Event(wall_time=time.time(), step=step, summary=scalar(f"{group}/{name}", value))
                self._writer.write_event(event)
            self._writer.flush()
        except OSError as error:
            self._writer = None
            self._say(f"no more events for TensorBoard from step {step} on ({error}); training goes on")

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _import_tensorboardx() -> None:
    """Import tensorboardX without torch, which it takes where it finds it and scalars don't need.

    A run of TensorFlow shall not load it: that takes seconds and hundreds of megabytes.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tensorboardX  # noqa: F401
    finally:
        if hidden:
            del sys.modules["torch"]
