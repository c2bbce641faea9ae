"""What a run says: lines and progress bars on the terminal, lines in an append-only file, TensorBoard events."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from experiment.progress import Bars


class RunLog:
    """Prints lines and appends them, with the time of day, to a file that is never truncated."""

    def __init__(self, path: Path | None) -> None:
        """Append to `path`; with None say nothing anywhere."""
        self.console = Console(highlight=False, soft_wrap=True, quiet=path is None)
        self.bars = Bars(self.console)
        self._path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def line(self, text: str) -> None:
        """Print one line and append it to the file, if the disk has room for it."""
        self.console.print(text, markup=False)
        if self._path is None:
            return
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


class Events:
    """TensorBoard events of one seed, written as they come.

    tensorboardX's SummaryWriter hands events to a thread through a queue; Ctrl-C at the wrong moment leaves that
    thread waiting for ever, and the program with it. Its EventsWriter writes them here and now.
    """

    def __init__(self, directory: Path | None, first_step: int) -> None:
        """Write under `directory`; what is there of `first_step` and later ones is not shown any more.

        With None nothing is written.
        """
        self._writer = None
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

        for name, value in values.items():
            event = Event(wall_time=time.time(), step=step, summary=scalar(f"{group}/{name}", value))
            self._writer.write_event(event)
        self._writer.flush()

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
