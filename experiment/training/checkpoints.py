"""Training checkpoints: all that a seed needs to go on after its process has died, as if nothing had happened.

Each is a directory that appears whole, by one rename, and holds

    state.safetensors   arrays (weights, moments, generators), and the rest of the state as JSON in its metadata
    best/               the files of checkpoint-best at that moment; of several tasks, best-TASK/ those of each one's
    checksums.json      SHA-256 of all of these

so that a reader can tell a damaged one (a power cut, a bad disk) and take the one before. What is damaged is set
aside, never deleted, and only what has been read and is wrong counts as damaged: a disk that can't be read ends the
program, and may be well again tomorrow.

The files of best/ are not those of checkpoint-best, where a user may edit a byte in place: they are copies, which the
training checkpoints share by hard links as long as the best checkpoint stays the same. So they cost the disk at most
one more set of weights for each different best one among those that are kept. At reading, checkpoint-best itself
stands in for a damaged copy, and without a sound one of either the seed goes on from its sound state.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from preprocess.base.files import delete, name_place, new_directory, write_json
from preprocess.base.hashing import sha256
from pretrained_configs.formats.reader import write_safetensors

DIRECTORY = "resume"
#: Beside it: what was damaged.
ASIDE = "resume-damaged"
_STATE, _BEST, _CHECKSUMS = "state.safetensors", "best", "checksums.json"
_SEPARATOR = "/"


@dataclass(frozen=True)
class Saved:
    """What a training checkpoint holds.

    Args:
        state: as saved, tuples as lists.
        best_is_lost: whether there was a best checkpoint, and no sound copy of it is left.
    """

    state: dict[str, Any]
    best_is_lost: bool = False


class Damaged(Exception):
    """A file of a training checkpoint is not what was written; the message says which and how."""


class Checkpoints:
    """The training checkpoints of one seed, written in the background."""

    def __init__(
        self,
        seed_directory: Path,
        best: str,
        limit: int,
        say: Callable[[str], None],
        others: Mapping[str, Path] | None = None,
    ) -> None:
        """Keep them in the directory of a seed.

        Args:
            seed_directory: of the seed; must be locked by this process.
            best: name in it of the directory with the selected checkpoint, which is saved and restored too.
            limit: how many are kept, at least 1.
            say: gets a line for each that can't be written, or read.
            others: further such directories, by names that tell them apart.
        """
        self._directory = seed_directory / DIRECTORY
        named = {f"{_BEST}-{name}": path for name, path in (others or {}).items()}
        self._bests = {_BEST: seed_directory / best, **named}
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
            for copy, best in self._bests.items():
                if best.is_dir():
                    # Now: the next evaluation may replace it. Its files are left alone then, and copied below.
                    _take(best, temporary / copy)
            writer = ThreadPoolExecutor(max_workers=1)
            self._pending = writer.submit(self._write, step, temporary, name, arrays, metadata)
            writer.shutdown(wait=False)  # its thread ends with its work

    def _write(
        self, step: int, temporary: Path, name: str, arrays: dict[str, NDArray[Any]], metadata: dict[str, str]
    ) -> None:
        with self._surviving(step, temporary):
            write_safetensors(temporary / _STATE, arrays, metadata)
            files = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file())
            sums = {file: sha256(temporary / file) for file in files}
            self._own_copies(temporary, {file: digest for file, digest in sums.items() if file != _STATE})
            write_json(temporary / _CHECKSUMS, sums)
            os.rename(temporary, self._directory / name)
        for old in self._existing()[: -self._limit]:
            shutil.rmtree(old, ignore_errors=True)  # the next one tries again

    def _own_copies(self, temporary: Path, sums: Mapping[str, str]) -> None:
        """Make the files of best/ others than those of checkpoint-best: the checkpoint's before, or new copies."""
        existing = self._existing()
        for file, digest in sums.items():
            copy = temporary / f"{file}.copy"
            if not (existing and _linked(existing[-1] / file, digest, copy)):
                shutil.copyfile(temporary / file, copy)
            os.replace(copy, temporary / file)

    @contextlib.contextmanager
    def _surviving(self, step: int, temporary: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            self._say(f"no checkpoint of step {step} to resume from ({error}); the older ones stay")

    def wait(self) -> None:
        """Return when nothing is being written any more."""
        if self._pending is not None:
            self._pending.result()

    def load(self) -> Saved | None:
        """Read the last checkpoint that is sound, put its best one in place, and set aside what is damaged.

        Returns:
            what it holds; None if there is none.

        Raises:
            OSError: if one can't be read; nothing has been changed but what was damaged.
        """
        for unfinished in self._directory.glob(".[0-9]*-step-*"):
            delete(unfinished)
        usable: dict[Path, dict[str, Path | None]] = {}  # the last first
        for directory in reversed(self._existing()):
            try:
                usable[directory] = self._best_of(directory)
            except Damaged as error:
                self._say(f"{directory}: damaged ({error}), not used; kept as {self._set_aside(directory)}")
            except OSError as error:
                raise OSError(
                    f"{error}; nothing is deleted: the same command goes on when it can be read, or from an older "
                    f"checkpoint if you move {directory} away"
                ) from error
            else:
                if None not in usable[directory].values():
                    return self._restored(directory, usable[directory])
                self._say(f"{directory}: its copy of {self._bests[_BEST].name} is damaged, and there is no other")
        if not usable:
            return None
        for best in self._bests.values():
            if best.is_dir():
                self._set_aside(best)
        return Saved(_read(next(iter(usable)) / _STATE), best_is_lost=True)

    def _best_of(self, directory: Path) -> dict[str, Path | None]:
        """Check a checkpoint; returns for each file of its best one a sound copy, None where there is none.

        Raises:
            Damaged: if its state is not what was written.
            OSError: naming the file, if it can't be read.
        """
        sums = _checksums(directory)
        _check(directory / _STATE, sums[_STATE])
        return {
            file: _sound([directory / file, *self._place_of(file)], digest)
            for file, digest in sums.items()
            if file != _STATE
        }

    def _restored(self, directory: Path, best: Mapping[str, Path | None]) -> Saved:
        """Read a checkpoint, and put its best one in place."""
        state = _read(directory / _STATE)
        for copy, original in self._bests.items():
            files = {Path(file).name: sound for file, sound in best.items() if Path(file).parent.name == copy}
            if files:
                with new_directory(original) as place:
                    for name, sound in files.items():
                        assert sound is not None
                        shutil.copyfile(sound, place / name)
        return Saved(state)

    def _place_of(self, file: str) -> list[Path]:
        """Return where the original of a copy stands."""
        copy, name = Path(file).parent.name, Path(file).name
        return [self._bests[copy] / name] if copy in self._bests else []

    def _set_aside(self, directory: Path) -> Path:
        """Move what is damaged out of the way; returns where it is now."""
        place = self._directory.with_name(ASIDE)
        place.mkdir(exist_ok=True)
        taken = {path.name for path in place.iterdir()}
        names = chain([directory.name], (f"{directory.name}.{i}" for i in count(1)))
        aside = place / next(name for name in names if name not in taken)
        os.rename(directory, aside)
        return aside

    def remove(self) -> None:
        """Delete all of them, but not what was set aside."""
        with contextlib.suppress(OSError):
            delete(self._directory)

    def _existing(self) -> list[Path]:
        return sorted(self._directory.glob("[0-9]*-step-*"))


def _checksums(directory: Path) -> dict[str, str]:
    """Read the checksums of a checkpoint, by file; raises Damaged if they are not there, or not whole."""
    path = directory / _CHECKSUMS
    try:
        sums = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Damaged(f"{_CHECKSUMS} is missing") from None
    except ValueError as error:
        raise Damaged(f"{_CHECKSUMS} is not JSON: {error}") from None
    except OSError as error:
        name_place(error, path)
        raise
    if not isinstance(sums, dict) or _STATE not in sums or not all(isinstance(sum, str) for sum in sums.values()):
        raise Damaged(f"{_CHECKSUMS} does not hold the checksum of {_STATE}")
    return sums


def _check(path: Path, expected: str) -> None:
    """Raise Damaged unless a file has this SHA-256; raises OSError, naming it, if it can't be read."""
    try:
        digest = sha256(path)
    except (FileNotFoundError, IsADirectoryError):
        raise Damaged(f"{path.name} is missing") from None
    except OSError as error:
        name_place(error, path)
        raise
    if digest != expected:
        raise Damaged(f"{path.name} has another checksum")


def _sound(candidates: Sequence[Path], expected: str) -> Path | None:
    """Return the first file with this SHA-256; raises OSError if there is none, and one of them can't be read."""
    unreadable: OSError | None = None
    for path in candidates:
        try:
            _check(path, expected)
        except Damaged:
            continue
        except OSError as error:
            unreadable = error
            continue
        return path
    if unreadable is not None:
        raise unreadable
    return None


def _linked(path: Path, expected: str, target: Path) -> bool:
    """Make `target` a link to a file if that can be read and has this SHA-256; returns whether it is one."""
    try:
        _check(path, expected)
        os.link(path, target)
    except (Damaged, OSError):
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    """Read a state whose checksum is right."""
    with safe_open(path, "np") as file:
        state: dict[str, Any] = json.loads(file.metadata()["state"])
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            *parents, leaf = name.split(_SEPARATOR)
            values = state
            for parent in parents:
                values = values.setdefault(parent, {})
            values[leaf] = file.get_tensor(name)
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
            inner, rest[name] = _split(value, f"{prefix}{name}{_SEPARATOR}")
            arrays |= inner
        else:
            rest[name] = value
    return arrays, rest


def _take(source: Path, target: Path) -> None:
    """Make `target` a directory with the files that `source` has now; they may be the very same."""
    target.mkdir()
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:  # the file system has no links
            shutil.copyfile(file, target / file.name)
