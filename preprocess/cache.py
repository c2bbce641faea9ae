"""Content-addressed, memory-mapped FeatureSets: same data, tokenizer, parameters and version -> same directory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import unicodedata
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import Example, FeatureSet

_LOG = logging.getLogger(__name__)
_MANIFEST = "manifest.json"
#: Changes whenever the same examples, tokenizer and parameters are to give another FeatureSet.
_VERSION = "4"
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
    try:
        if directory.is_dir():
            return open_features(directory)
    except (OSError, DataError) as error:
        _LOG.warning("%s; rebuilding it", error)
    features = encoder.encode(examples, targets, tokenizer, transform=transform, **params)
    try:
        write_features(directory, features)
        return open_features(directory)
    except (OSError, DataError) as error:
        _LOG.warning("features can't be cached in %s (%s); going on in memory", cache_dir, error)
        return features


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


def _code_version() -> str:
    # Python's Unicode says which characters are letters, marks or nothing yet.
    return f"{_VERSION}, Unicode {unicodedata.unidata_version}"


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
            with open(temporary / f"{name}.npy", "wb") as file:
                np.save(file, array)
                _flush(file.fileno(), file)
            columns[name] = {"shape": list(array.shape), "dtype": array.dtype.str, "crc32": _checksum(array)}
        body = {"columns": columns, "meta": features.meta}
        with open(temporary / _MANIFEST, "w", encoding="utf-8") as text:
            json.dump({"body": body, "hash": _hash(body)}, text, indent=1)
            _flush(text.fileno(), text)
        _sync_directory(temporary)
        _publish(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_features(directory: str | Path) -> FeatureSet:
    """Memory-map a directory that `write_features` wrote, after checking every column's checksum.

    Raises:
        DataError: if anything is missing or differs from what was written.
    """
    directory = Path(directory)
    try:
        manifest = json.loads((directory / _MANIFEST).read_text("utf-8"))
        body = manifest["body"]
        if manifest["hash"] != _hash(body):
            raise ValueError("the manifest was changed")
        columns = {name: _open_column(directory, name, facts) for name, facts in body["columns"].items()}
        targets = {
            name.removeprefix(_TARGET): columns.pop(name) for name in list(columns) if name.startswith(_TARGET)
        }
        return FeatureSet(**columns, targets=targets, meta=body["meta"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{directory}: damaged features ({reason}); delete the directory to rebuild it") from None


def _open_column(directory: Path, name: str, expected: Mapping[str, Any]) -> Any:
    path = directory / f"{name}.npy"
    # An empty array can't be mapped; it costs nothing to read.
    empty = 0 in expected["shape"]
    array = np.load(path, mmap_mode=None if empty else "r", allow_pickle=False)
    if list(array.shape) != expected["shape"] or array.dtype.str != expected["dtype"]:
        raise ValueError(f"{path.name} is {array.dtype.str} {array.shape}")
    if _checksum(array) != expected["crc32"]:
        raise ValueError(f"{path.name} has another checksum")
    return array


def _checksum(array: NDArray[Any]) -> int:
    return zlib.crc32(array.data)


def _hash(body: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def _publish(temporary: Path, directory: Path) -> None:
    """Rename `temporary` to `directory`; a sound entry there stays, a damaged one is moved away first."""
    if directory.is_dir():
        try:
            open_features(directory)
            return
        except DataError:
            grave = _new_temporary(directory)
            _rename(directory, grave / "damaged")
            shutil.rmtree(grave, ignore_errors=True)
    _rename(temporary, directory)
    _sync_directory(directory.parent)


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
