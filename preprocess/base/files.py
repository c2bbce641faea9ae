"""Writing files so that a crash, Ctrl-C or a full disk leaves the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

#: Directories in which the open files of a process have names, as the system resolves /dev/fd and /proc/self/fd.
_DESCRIPTORS = re.compile(r"/dev/fd|/proc/(\d+)(?:/task/\d+)?/fd")
#: More links than any system follows from one path.
_MAX_LINKS = 64


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file whose content becomes that of `path` if the block succeeds, and is dropped if not.

    A regular file is replaced as a whole; of a link, the file that it leads to. What is no regular file (a pipe, a
    device, an open file such as /dev/stdout or /dev/fd/3) stays what it is and is written to after the block.

    Raises:
        OSError: if it can't be written; an older regular file is then still whole.
    """
    try:
        stream = _open_stream(path)
        if stream is None:
            with _renamed(Path(os.path.realpath(path))) as file:
                yield file
        else:
            # Whoever reads a pipe can't be told that half of it was a mistake, and some writers need to seek.
            buffer = io.BytesIO()
            with stream:
                yield buffer
                stream.write(buffer.getbuffer())
    except OSError as error:
        name_place(error, path)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by this text in UTF-8, as `replacing` does."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Replace the content of `path` by this JSON value, as `replacing` does; floats keep their full precision."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False) + "\n")


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory that takes the place of `path` if the block succeeds, and is deleted if not.

    A link to an empty or missing directory is followed. Any other link is replaced itself: what it leads to is
    nobody's to delete.
    """
    if path.is_symlink() and not (path.is_dir() and any(path.iterdir())):
        path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    # A directory can't be replaced in one step; the old one steps aside first and is deleted last.
    old = temporary.with_name(temporary.name + ".old")
    try:
        temporary.mkdir()
        yield temporary
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        if old.exists() and not path.exists():
            os.rename(old, path)
        shutil.rmtree(temporary, ignore_errors=True)
        name_place(error, path)
        raise


def name_place(error: BaseException, path: Path) -> None:
    """Let an error of the operating system that does not say which file it is about (a full disk) say so."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = str(path)


def delete(path: Path) -> None:
    """Delete a file, or a directory with all that is in it; of a link the link alone. What is gone is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(directory: Path, *, waits: bool = False) -> Iterator[None]:
    """Hold a directory for this process; the lock goes with the process, however it ends.

    Args:
        directory: must exist.
        waits: whether to wait while another process holds it.

    Raises:
        BlockingIOError: if another process holds it, unless that is waited for.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _renamed(path: Path) -> Iterator[BinaryIO]:
    """Yield a file beside `path` that gets its name at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        # Created as any new file is: the system itself takes off the permissions in the umask. Reading the umask
        # means setting it for a moment, and another thread's file would be open to all if made just then.
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _open_stream(path: Path) -> BinaryIO | None:
    """Open what can only be written to; None for a regular file, or if there is nothing yet."""
    number = _own_descriptor(path)
    if number is not None:
        # Not opened anew: a second opening of a log begins at its first byte, and a socket can't be opened at all.
        return os.fdopen(os.dup(number), "wb")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return None if stat.S_ISREG(mode) else os.fdopen(os.open(path, os.O_WRONLY), "wb")


def _own_descriptor(path: Path) -> int | None:
    """Return the number of this process's open file that a path such as /dev/stdout leads to, or None."""
    for _ in range(_MAX_LINKS):
        place = _DESCRIPTORS.fullmatch(os.path.realpath(path.parent)) if path.name.isdecimal() else None
        if place is not None and place[1] in (None, str(os.getpid())):
            return int(path.name)
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
    return None


def _temporary(path: Path) -> Path:
    """Return a new name beside `path`, of which whoever clears up knows whose it was."""
    return path.with_name(f".{path.name[:60]}.{secrets.token_hex(6)}")
