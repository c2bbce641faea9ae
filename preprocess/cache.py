"""Content-addressed, memory-mapped FeatureSets: same data, tokenizer, parameters and version -> same directory.

An entry is a directory named by its key. It holds one .npy file per column and a manifest with the key, the size and
CRC-32 of each file, and a hash of itself. Everything is checked before anything is parsed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import re
import shutil
import time
import unicodedata
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from preprocess.base.errors import DataError
from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import Example, FeatureSet

_LOG = logging.getLogger(__name__)
_MANIFEST = "manifest.json"
#: Changes whenever the same examples, tokenizer and parameters are to give another FeatureSet, or other files.
_VERSION = "6"
_KEY = re.compile("[0-9a-f]{32}")
#: Files that others keep here, such as what teachers said of texts: a word for what they hold, and a key.
_FILE = re.compile("[a-z]+-[0-9a-f]{32}[.]npz")
#: What the files of targets are called, before the name of their output.
_TARGET = "target."
_TEMPORARY = ".features.tmp"
#: A temporary directory this old belongs to a writer that was killed.
_ABANDONED_S = 3600.0


class Encoder(Protocol):
    """What turns examples into a FeatureSet: a task's problem."""

    @property
    def name(self) -> str:
        """Names all that `encode` depends on beside its arguments."""

    def encode(
        self, examples: Sequence[Example], targets: Sequence[Any], tokenizer: Tokenizer, **params: Any
    ) -> FeatureSet:
        """Cut examples into windows, with their targets."""


def cached_encode(
    cache_dir: str | Path | None,
    encoder: Encoder,
    examples: Sequence[Example],
    targets: Sequence[Any],
    tokenizer: Tokenizer,
    *,
    transform: TextTransform | None = None,
    **params: Any,
) -> FeatureSet:
    """Return `encoder.encode` of the same arguments, from `cache_dir` where it is there already.

    A damaged entry is rebuilt; a cache that can't be written costs a warning and the time, never the result.

    Args:
        cache_dir: directory of all entries, made if needed; None encodes in memory.
        encoder: makes the windows.
        examples: E examples.
        targets: E values that say by their `repr` all that they are, or None.
        tokenizer: makes the pieces.
        transform: keyword argument of `encode`; its name stands for what it does.
        **params: further keyword arguments of `encode`.
    """
    if cache_dir is None:
        return encoder.encode(examples, targets, tokenizer, transform=transform, **params)
    key = cache_key(encoder, examples, targets, tokenizer, transform=transform, **params)
    directory = Path(cache_dir) / key
    features = _sound(directory, logging.DEBUG)
    if features is not None:
        return features
    with _alone(directory):
        features = _sound(directory, logging.WARNING)  # of another process, which had begun it first
        if features is not None:
            return features
        features = encoder.encode(examples, targets, tokenizer, transform=transform, **params)
        try:
            write_features(directory, features)
            return open_features(directory)
        except (OSError, DataError) as error:
            _LOG.warning("features can't be cached in %s (%s); going on in memory", cache_dir, error)
            return features


def _sound(directory: Path, level: int) -> FeatureSet | None:
    """Return the features of an entry, or None where there is none, or a damaged one, which is logged."""
    try:
        if not directory.is_dir():
            return None
        features = open_features(directory)
    except (OSError, DataError) as error:
        _LOG.log(level, "%s; rebuilding it", error)
        return None
    with contextlib.suppress(OSError):  # of a cache that is only read, nobody needs to know what was used
        os.utime(directory / _MANIFEST)
    return features


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Wait for other processes that make the same entry, so that each is computed once; without a lock nobody waits.

    Who comes when the file of the lock is being deleted may hold another one: then both compute, and one entry stays.
    """
    path = directory.with_name(f".{directory.name}.lock")
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # the cache can't be written, or its disk knows no locks
            directory.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(open(path, "wb"))
            fcntl.flock(file, fcntl.LOCK_EX)
            held.callback(path.unlink, missing_ok=True)
        yield


def cache_key(
    encoder: Encoder,
    examples: Sequence[Example],
    targets: Sequence[Any],
    tokenizer: Tokenizer,
    *,
    transform: TextTransform | None = None,
    **params: Any,
) -> str:
    """Return the hash (32 hex digits) of all that `encode` depends on."""
    texts = {text: index for index, text in enumerate(dict.fromkeys(example.context for example in examples))}
    facts = [_code_version(), encoder.name, tokenizer.fingerprint, transform and transform.name]
    content = [
        [*facts, sorted(params.items())],
        list(texts),
        [[texts[example.context], example.question, *example.options] for example in examples],
        [repr(target) for target in targets],
    ]
    return hashlib.blake2b(json.dumps(content, default=asdict).encode(), digest_size=16).hexdigest()


@cache
def _code_version() -> str:
    # Python's Unicode says which characters are letters, marks or nothing yet; these libraries cut texts into pieces.
    libraries = [f"{name} {metadata.version(name)}" for name in ("sentencepiece", "tokenizers")]
    return ", ".join([_VERSION, f"Unicode {unicodedata.unidata_version}", *libraries])


def write_features(directory: str | Path, features: FeatureSet) -> None:
    """Write a FeatureSet as a directory that appears whole or not at all.

    Where another process has finished a sound copy first, that one stays.

    Raises:
        OSError: if it can't be written; nothing is left behind.
    """
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(directory.parent)
    temporary = _new_temporary(directory)
    try:
        columns = {}
        arrays = {name: getattr(features, name) for name in FeatureSet.columns()}
        arrays |= {_TARGET + name: array for name, array in features.targets.items()}
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            with open(temporary / f"{name}.npy", "w+b") as file:
                np.save(file, array)
                _flush(file.fileno(), file)
                n_bytes = file.tell()
                file.seek(0)
                crc32 = zlib.crc32(array.data, zlib.crc32(file.read(n_bytes - array.nbytes)))
            facts = {"shape": list(array.shape), "dtype": array.dtype.str}
            columns[name] = {**facts, "n_bytes": n_bytes, "crc32": crc32}
        body = {"key": directory.name, "columns": columns, "meta": features.meta}
        with open(temporary / _MANIFEST, "w", encoding="utf-8") as text:
            json.dump({"body": body, "hash": _hash(body)}, text, indent=1)
            _flush(text.fileno(), text)
        _sync_directory(temporary)
        _publish(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_features(directory: str | Path) -> FeatureSet:
    """Memory-map a directory that `write_features` wrote, after checking the checksum of every byte in it.

    Raises:
        DataError: if anything is missing or differs from what was written under this name.
    """
    directory = Path(directory)
    try:
        manifest = json.loads((directory / _MANIFEST).read_text("utf-8"))
        body = manifest["body"]
        if manifest["hash"] != _hash(body):
            raise ValueError("the manifest was changed")
        if body["key"] != directory.name:
            raise ValueError(f"they belong to {body['key']}")
        columns = {name: _open_column(directory, name, facts) for name, facts in body["columns"].items()}
        targets = {
            name.removeprefix(_TARGET): columns.pop(name) for name in list(columns) if name.startswith(_TARGET)
        }
        return FeatureSet(**columns, targets=targets, meta=body["meta"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{directory}: damaged features ({reason}); delete the directory to rebuild it") from None


def _open_column(directory: Path, name: str, expected: Mapping[str, Any]) -> Any:
    path = directory / f"{name}.npy"
    content = np.memmap(path, np.uint8, "r")
    # The header counts, too: what numpy makes of a damaged one can be any error, or another array.
    if len(content) != expected["n_bytes"] or zlib.crc32(content.data) != expected["crc32"]:
        raise ValueError(f"{path.name} has another checksum")
    dtype, shape = np.dtype(expected["dtype"]), expected["shape"]
    return content[len(content) - math.prod(shape) * dtype.itemsize :].view(dtype).reshape(shape)


def _hash(body: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One FeatureSet in a cache, or a file that is kept beside them.

    Args:
        path: its directory, or the file.
        n_bytes: what its files hold.
        used_s: when it was last written or read, in seconds since 1970.
    """

    path: Path
    n_bytes: int
    used_s: float


def entries(cache_dir: str | Path) -> list[Entry]:
    """Return all entries of a cache, damaged ones too, the last used first; none if there is no such directory."""
    listed = []
    for path in Path(cache_dir).glob("*"):
        # Whatever else a user keeps there is not ours, and where a link leads is not either.
        kept = path.is_file() if _FILE.fullmatch(path.name) else path.is_dir() and bool(_KEY.fullmatch(path.name))
        if not kept or path.is_symlink():
            continue
        with contextlib.suppress(FileNotFoundError):  # another process has just deleted it
            files = [path] if path.is_file() else list(path.iterdir())
            stats = [file.stat() for file in (path, *files)]
            n_bytes = sum(file.st_size for file in stats[1:])
            listed.append(Entry(path, n_bytes, max(file.st_mtime for file in stats)))
    return sorted(listed, key=lambda entry: (-entry.used_s, entry.path))


def prune(cache_dir: str | Path, *, unused_s: float | None = None, max_bytes: float | None = None) -> list[Entry]:
    """Delete entries of a cache, and what killed writers left there.

    Whoever has mapped a deleted entry keeps it until it ends, and whoever needs it afterwards encodes again.

    Args:
        cache_dir: the cache.
        unused_s: delete what was not used for so many seconds.
        max_bytes: delete what was used longest ago, until the rest is not larger; with neither, delete all.

    Returns:
        what was deleted.

    Raises:
        OSError: if an entry can't be deleted.
    """
    _remove_abandoned(Path(cache_dir))
    oldest_last, now, deleted = entries(cache_dir), time.time(), []
    n_bytes = sum(entry.n_bytes for entry in oldest_last)
    for entry in reversed(oldest_last):
        is_old = unused_s is not None and now - entry.used_s > unused_s
        is_too_much = max_bytes is not None and n_bytes > max_bytes
        if is_old or is_too_much or (unused_s is None and max_bytes is None):
            _bury(entry.path)
            deleted.append(entry)
            n_bytes -= entry.n_bytes
    return deleted


def _publish(temporary: Path, directory: Path) -> None:
    """Rename `temporary` to `directory`; a sound entry there stays, a damaged one is moved away first."""
    if directory.is_dir():
        try:
            open_features(directory)
            return
        except DataError:
            _bury(directory)
    _rename(temporary, directory)
    _sync_directory(directory.parent)


def _bury(entry: Path) -> None:
    """Delete an entry in such a way that nobody ever sees a part of it."""
    grave = _new_temporary(entry)
    try:
        _rename(entry, grave / "entry")
    finally:
        shutil.rmtree(grave, ignore_errors=True)


def _rename(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError:
        # Another process was faster: it has published the same content, or taken the damaged entry away.
        if source.exists() and not target.exists():
            raise


def _new_temporary(directory: Path) -> Path:
    temporary = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}{_TEMPORARY}")
    temporary.mkdir()
    return temporary


def _remove_abandoned(directory: Path) -> None:
    for leftover in directory.glob(f".*{_TEMPORARY}"):
        try:
            if time.time() - leftover.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(leftover, ignore_errors=True)
        except OSError:  # its writer has just renamed or removed it
            continue


def _flush(descriptor: int, file: Any) -> None:
    file.flush()
    os.fsync(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
