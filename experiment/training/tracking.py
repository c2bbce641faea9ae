"""The curves of a seed, for everybody who is to get them: no tracker is worth a training."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from experiment.io.trackers import TENSORBOARD, TRACKERS, Tracker, trackers_of
from experiment.training.runlog import Events

if TYPE_CHECKING:
    from experiment.training.seed import SeedRun

_LONGEST_REASON = 300


class Curves:
    """What is measured as a seed is trained; as a context manager it tells trackers how the training has ended."""

    def __init__(self, run: SeedRun) -> None:
        """Begin; a process that writes nothing tells nobody."""
        options = run.setup.options
        self._say: Callable[[str], None] = run.log.line
        self._trackers: dict[str, Tracker] = {}
        names = trackers_of(options.report_to) if run.writes else []
        directory = run.directory / "tensorboard" if TENSORBOARD in names else None
        self._events = Events(directory, run.progress.step + 1, run.log.line)
        where = f"{_name(options.output_dir)} seed {run.seed}"
        record = run.record
        about = {**options.config, "seed": run.seed, "model": record.model, "task_version": record.task_version}
        for name in names:
            if name != TENSORBOARD:
                self._guarded(name, partial(self._begin, name, where, record.task, about))

    def __enter__(self) -> Curves:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close everything."""
        self._events.close()
        for name, tracker in list(self._trackers.items()):
            self._guarded(name, partial(tracker.end, kind is None))

    def add(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Record scalars under `group/name`."""
        self._events.add(group, values, step)
        named = {f"{group}/{name}": float(value) for name, value in values.items()}
        for name, tracker in list(self._trackers.items()):
            self._guarded(name, partial(tracker.log, named, step))

    def _begin(self, name: str, run: str, task: str, config: Mapping[str, object]) -> None:
        self._trackers[name] = TRACKERS[name](run, task, config)

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        """Call a tracker; let an error be its end, whatever it is: a login that asks in vain ends the program."""
        try:
            call()
        except (Exception, SystemExit) as error:
            self._trackers.pop(name, None)
            what = textwrap.shorten(str(error), _LONGEST_REASON, placeholder=" …") or type(error).__name__
            self._say(f"no more curves for {name} ({what}); training goes on")


def _name(directory: Path) -> str:
    """Return what a run directory is called, also where it was typed as "."."""
    return Path(os.path.abspath(directory)).name
