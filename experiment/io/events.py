"""TensorBoard's event files: scalars, written as they come.

The format is two small ones, one within the other: records with checksums (TensorFlow's TFRecord) of protocol buffers
(event.proto and summary.proto of TensorBoard). Libraries that write it import PyTorch where they find it, or hand the
events to a thread that Ctrl-C may leave waiting for ever.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

_START = 1  # SessionLog.START


class EventFile:
    """A file of events of its own; others in the directory are shown together with it."""

    def __init__(self, directory: Path, first_step: int) -> None:
        """Begin a file; what other files hold of `first_step` and later ones is not shown any more.

        Raises:
            OSError: if it can't be written.
        """
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        # Unbuffered: what a full disk has refused must not come again when the file is closed.
        self._file = (directory / name).open("ab", buffering=0)
        self._write(_record(_event(0, _text(3, "brain.Event:2"))), _record(_event(first_step, _restart())))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Write scalars by their tags.

        Raises:
            OSError: if the disk has no room for them.
        """
        self._write(*(_record(_event(step, _scalar(tag, value))) for tag, value in values.items()))

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def _write(self, *records: bytes) -> None:
        whole = b"".join(records)
        if self._file.write(whole) != len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _event(step: int, what: bytes) -> bytes:
    return struct.pack("<Bd", 1 << 3 | 1, time.time()) + _number(2, step) + what


def _restart() -> bytes:
    return _bytes(7, _number(1, _START))


def _scalar(tag: str, value: float) -> bytes:
    try:
        number = struct.pack("<f", value)
    except OverflowError:  # beyond float32
        number = struct.pack("<f", math.copysign(math.inf, value))
    return _bytes(5, _bytes(1, _text(1, tag) + bytes([2 << 3 | 5]) + number))


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _number(field: int, number: int) -> bytes:
    return bytes([field << 3]) + _varint(number)


def _varint(number: int) -> bytes:
    """Encode seven bits per byte, the lowest first; all bytes but the last have the eighth bit."""
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(content: bytes) -> bytes:
    """Return the masked CRC-32C, as TFRecord wants it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc32c_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC32C = [_crc32c_of(byte) for byte in range(256)]
