"""Training checkpoints: all that a seed needs to go on after its process has died, as if nothing had happened.

Each is a directory that appears whole, by one rename, and holds

    state.safetensors   arrays (weights, moments, generators), and the rest of the state as JSON in its metadata
    best/               the files of checkpoint-best at that moment: hard links where the file system has them
    checksums.json      SHA-256 of all of these

so that a reader can tell a damaged one (a power cut, a bad disk) and take the one before.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from preprocess.base.files import new_directory, write_json
from preprocess.base.hashing import sha256
from pretrained_configs.formats.reader import write_safetensors

DIRECTORY = "resume"
_STATE, _BEST, _CHECKSUMS = "state.safetensors", "best", "checksums.json"
_SEPARATOR = "/"


class Checkpoints:
    """The training checkpoints of one seed, written in the background."""

    def __init__(self, seed_directory: Path, best: str, limit: int, say: Callable[[str], None]) -> None:
        """Keep them in the directory of a seed.

        Args:
            seed_directory: of the seed; must be locked by this process.
            best: name in it of the directory with the selected checkpoint, which is saved and restored too.
            limit: how many are kept, at least 1.
            say: gets a line for each that can't be written, or read.
        """
        self._directory = seed_directory / DIRECTORY
        self._best = seed_directory / best
        self._limit = limit
        self._say = say
        self._pending: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether one is being written."""
        return self._pending is not None and not self._pending.done()

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint in the background; a full disk costs a line, and the older ones stay.

        Args:
            step: steps done.
            state: nested dicts of numpy arrays (not to be changed any more) and JSON values.
        """
        self.wait()
        existing = self._existing()
        serial = 1 + (int(existing[-1].name.partition("-")[0]) if existing else 0)
        name = f"{serial:06d}-step-{step}"
        temporary = self._directory / f".{name}"
        arrays, rest = _split(state)
        metadata = {"state": json.dumps(rest)}
        with self._surviving(step, temporary):
            temporary.mkdir(parents=True)
            if self._best.is_dir():
                # Now: the next evaluation may replace it.
                _link(self._best, temporary / _BEST)
            writer = ThreadPoolExecutor(max_workers=1)
            self._pending = writer.submit(self._write, step, temporary, name, arrays, metadata)
            writer.shutdown(wait=False)  # its thread ends with its work

    def _write(
        self, step: int, temporary: Path, name: str, arrays: dict[str, NDArray[Any]], metadata: dict[str, str]
    ) -> None:
        with self._surviving(step, temporary):
            write_safetensors(temporary / _STATE, arrays, metadata)
            files = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file())
            write_json(temporary / _CHECKSUMS, {file: sha256(temporary / file) for file in files})
            os.rename(temporary, self._directory / name)
        for old in self._existing()[: -self._limit]:
            shutil.rmtree(old, ignore_errors=True)  # the next one tries again

    @contextlib.contextmanager
    def _surviving(self, step: int, temporary: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            self._say(f"no checkpoint of step {step} to resume from ({error}); training goes on")

    def wait(self) -> None:
        """Return when nothing is being written any more."""
        if self._pending is not None:
            self._pending.result()

    def load(self) -> dict[str, Any] | None:
        """Read the last sound checkpoint, put its best checkpoint in place, and delete what is damaged.

        Returns:
            the state as saved, tuples as lists; None if there is none.
        """
        for unfinished in self._directory.glob(".[0-9]*-step-*"):
            shutil.rmtree(unfinished)
        for directory in reversed(self._existing()):
            try:
                state = _read(directory)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._say(f"{directory}: damaged ({error}), not used")
                shutil.rmtree(directory)
                continue
            if (directory / _BEST).is_dir():
                with new_directory(self._best) as best:
                    _link(directory / _BEST, best)
            return state
        return None

    def remove(self) -> None:
        """Delete all of them."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _existing(self) -> list[Path]:
        return sorted(self._directory.glob("[0-9]*-step-*"))


def _read(directory: Path) -> dict[str, Any]:
    """Read a checkpoint; raises ValueError, KeyError, TypeError or OSError if it is not what was written."""
    sums = json.loads((directory / _CHECKSUMS).read_text(encoding="utf-8"))
    for file in {_STATE, *sums}:
        if sha256(directory / file) != sums[file]:
            raise ValueError(f"{file} has another checksum")
    with safe_open(directory / _STATE, "np") as file:
        state: dict[str, Any] = json.loads(file.metadata()["state"])
        for path in file.keys():  # noqa: SIM118 (not a mapping)
            *parents, name = path.split(_SEPARATOR)
            values = state
            for parent in parents:
                values = values.setdefault(parent, {})
            values[name] = file.get_tensor(path)
    return state


def _split(state: dict[str, Any], prefix: str = "") -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Take the arrays out of nested dicts: returns path -> array, and the dicts without them."""
    arrays: dict[str, NDArray[Any]] = {}
    rest: dict[str, Any] = {}
    for name, value in state.items():
        assert _SEPARATOR not in name, name
        if isinstance(value, np.ndarray):
            arrays[prefix + name] = value
        elif isinstance(value, dict):
            found, rest[name] = _split(value, f"{prefix}{name}{_SEPARATOR}")
            arrays |= found
        else:
            rest[name] = value
    return arrays, rest


def _link(source: Path, target: Path) -> None:
    """Make `target` a directory with the files of `source`, which nobody changes in place."""
    target.mkdir(exist_ok=True)
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:  # the file system has no links
            shutil.copyfile(file, target / file.name)
