"""Safetensors files: read one tensor at a time, and written."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from preprocess.base.errors import CheckpointError
from preprocess.base.files import replacing
from pretrained_configs.formats.damage import unreadable

#: safetensors' names of types -> numpy's; BF16 is widened by hand because numpy has no such type.
_SAFETENSORS_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True, slots=True)
class SafetensorsTensor:
    """A tensor of a safetensors file; see `namemap.LazyTensor`."""

    path: Path
    file: IO[bytes]
    offset: int
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> np.ndarray:
        """Read the values from the file: floating-point ones as float32.

        What is stored as float32 is mapped: pages come from the file when they are first touched, and changing the
        array copies them and leaves the file alone.

        Raises:
            CheckpointError: if the file has become shorter since it was opened.
        """
        size = math.prod(self.shape)
        stored = np.dtype("uint16" if self.dtype == "bfloat16" else self.dtype).newbyteorder("<")
        if os.fstat(self.file.fileno()).st_size < self.offset + size * stored.itemsize:
            raise CheckpointError(f"{self.path}: was cut off after it was opened; copy it again")
        if self.dtype == "float32" and sys.byteorder == "little" and size:
            return np.require(np.memmap(self.file, "float32", "c", self.offset, self.shape), requirements="A")
        self.file.seek(self.offset)
        flat = np.fromfile(self.file, stored, size)
        if self.dtype == "bfloat16":
            # bfloat16 is the upper half of a float32.
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        elif self.dtype.startswith("float"):
            flat = flat.astype(np.float32, copy=False)
        return flat.reshape(self.shape)


def open_safetensors(path: Path, stack: ExitStack) -> dict[str, SafetensorsTensor]:
    """Open a file; it stays open until the stack is closed.

    Raises:
        CheckpointError: if it is truncated or not a safetensors file, or holds types that numpy has no room for.
    """
    from safetensors import SafetensorError, safe_open

    try:
        # The library checks the header: spans that overlap, leave gaps or end beyond the file.
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise unreadable(error, f"{path}: not a whole safetensors file", "copy or download it again") from None
    file = stack.enter_context(path.open("rb"))
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    others = sorted({entry["dtype"] for entry in header.values()} - set(_SAFETENSORS_TYPES))
    if others:
        raise CheckpointError(f"{path}: tensors of type {', '.join(others)} can't be read; store them as F16 or F32")
    return {
        name: SafetensorsTensor(
            path,
            file,
            8 + length + entry["data_offsets"][0],
            tuple(entry["shape"]),
            _SAFETENSORS_TYPES[entry["dtype"]],
        )
        for name, entry in header.items()
    }


def write_safetensors(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, one tensor at a time; a reader sees the old file or the whole new one.

    The layout is that of the safetensors format: length of the header (uint64), header (JSON), values.

    Args:
        path: the file; its directory must exist.
        tensors: name -> array; views are fine.
        metadata: strings for the header, by default {"format": "pt"}, which transformers wants to see.

    Raises:
        CheckpointError: if an array's type has no name in the format.
    """
    path = Path(path)
    names = {np_name: name for name, np_name in _SAFETENSORS_TYPES.items()}
    # Wide types first, as the format asks for, so that every tensor is aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata or {"format": "pt"})}
    offset = 0
    for name in order:
        array = tensors[name]
        if array.dtype.name not in names:
            raise CheckpointError(f"{path}: {name} has type {array.dtype.name}, which safetensors can't hold")
        span = [offset, offset + array.nbytes]
        header[name] = {"dtype": names[array.dtype.name], "shape": list(array.shape), "data_offsets": span}
        offset += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            little = tensors[name].astype(tensors[name].dtype.newbyteorder("<"), copy=False)
            file.write(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
