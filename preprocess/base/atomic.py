"""Files that are whole or absent."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that takes the place of `path` if the block succeeds, and is deleted if not.

    Raises:
        OSError: if it can't be written; an older file is then still whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~umask())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        name_place(error, path)
        raise


def name_place(error: BaseException, path: Path) -> None:
    """Let the error of an operating system that does not say which file it is about (a full disk) say so."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = str(path)


def umask() -> int:
    """Return the process's umask, the permissions that new files don't get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
