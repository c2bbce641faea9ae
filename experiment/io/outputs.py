"""Where results go, looked at before anything is computed: hours of work must not end in "Read-only file system"."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from preprocess.base.errors import UsageError

#: What is written on trial: a block, which a full disk has no room for.
_TRIAL_BYTES = 4096


def check_file(flag: str, path: Path | None) -> None:
    """Refuse a file that can't be written; what is there stays as it is.

    Args:
        flag: the option that names it.
        path: of the file; None for none, which is all right.

    Raises:
        UsageError: naming the flag, what stands in the way and what to do.
    """
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"{flag} {path}: a directory stands there; give the name of a file")
    if path.exists() and not path.is_file():
        return  # a pipe or a device: to open it might wait for a reader, or take what is written
    _try_to_write(flag, path, (path.resolve() if path.is_symlink() else path).parent)


def check_directory(flag: str, path: Path | None, files: tuple[str, ...] = ()) -> None:
    """Refuse a directory that can't be made or written into; none is made yet.

    Args:
        flag: the option that names it.
        path: of the directory; None for none, which is all right.
        files: names of what will be written into it.

    Raises:
        UsageError: naming the flag, what stands in the way and what to do.
    """
    if path is None:
        return
    if path.exists() and not path.is_dir():
        raise UsageError(f"{flag} {path}: a file stands there; give a directory")
    _try_to_write(flag, path, path)
    for name in files:
        if (path / name).is_dir():
            raise UsageError(f"{flag} {path}: {name} in it is a directory; give another one")


def check_new_directory(flag: str, path: Path) -> None:
    """Refuse a directory that is there and not empty, or can't be made.

    Raises:
        UsageError: naming the flag, what stands in the way and what to do.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{flag} {path}: exists and is not empty; give a new directory")
    check_directory(flag, path)


def _try_to_write(flag: str, path: Path, directory: Path) -> None:
    """Write and delete a file without a name in a directory, or in the nearest one that is there."""
    while not directory.exists():
        directory = directory.parent
    if not directory.is_dir():
        raise UsageError(f"{flag} {path}: {directory} is a file, not a directory; give another place")
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())  # over a network a full disk is noticed here
    except OSError as error:
        raise UsageError(f"{flag} {path}: can't be written ({error.strerror}); give another place") from None
