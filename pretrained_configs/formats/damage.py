"""What a library says of a file that it can't read: the file's fault, or the machine's."""

from __future__ import annotations

from preprocess.base.errors import CheckpointError

#: What frameworks say, in errors of no class of their own, where memory does not suffice.
_NO_ROOM = ("can't allocate memory", "Cannot allocate memory", "not enough memory")


def unreadable(error: Exception, what: str, remedy: str) -> Exception:
    """Return the error to raise for one that a library raised while it read a file.

    A disk that can't be read, or memory that does not suffice, says nothing about the file: nobody should delete or
    download it again for that. HDF5 calls damage an OSError too, but one without a number.

    Args:
        error: as raised.
        what: names the file and says what it is not.
        remedy: what to do if the file is at fault.
    """
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(phrase in text for phrase in _NO_ROOM):
        return MemoryError(text)
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return CheckpointError(f"{what} ({text[:160] or type(error).__name__}); {remedy}")
