"""The tensors of checkpoint files as {published name: numpy array}, read one at a time, and written.

Read are safetensors and PyTorch files (zip and legacy), whole or sharded. Half-precision values become float32.
Torch is imported only for a PyTorch file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pretrained_configs.config import CheckpointError
from pretrained_configs.locate import LocalCheckpoint, locate, resolve, weight_map

if TYPE_CHECKING:
    import torch

__all__ = ["LocalCheckpoint", "checksum", "locate", "open_tensors", "resolve", "write_safetensors"]

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

    file: IO[bytes]
    offset: int
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> np.ndarray:
        """Read the values from the file: floating-point ones as float32."""
        stored = "uint16" if self.dtype == "bfloat16" else self.dtype
        self.file.seek(self.offset)
        flat = np.fromfile(self.file, np.dtype(stored).newbyteorder("<"), math.prod(self.shape))
        if self.dtype == "bfloat16":
            # bfloat16 is the upper half of a float32.
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        elif self.dtype.startswith("float"):
            flat = flat.astype(np.float32, copy=False)
        return flat.reshape(self.shape)


@dataclass(frozen=True, slots=True)
class TorchTensor:
    """A tensor of a PyTorch file; see `namemap.LazyTensor`."""

    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The stored shape."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> str:
        """The stored type, e.g. "float16"."""
        return str(self.tensor.dtype).removeprefix("torch.")

    def read(self) -> np.ndarray:
        """Return the values: floating-point ones as float32."""
        tensor = self.tensor.detach()
        return (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()


Tensors = Mapping[str, SafetensorsTensor | TorchTensor]


@contextmanager
def open_tensors(checkpoint: LocalCheckpoint) -> Iterator[Tensors]:
    """Open the weights; their values are read one tensor at a time, while the context lasts.

    Raises:
        CheckpointError: if a file is empty, truncated, no weights file, or asks for code to be run.
    """
    with ExitStack() as stack:
        tensors: dict[str, SafetensorsTensor | TorchTensor] = {}
        for path in checkpoint.weights:
            for name, tensor in _open_file(path, stack).items():
                if name in tensors:
                    raise CheckpointError(f"{path}: tensor {name!r} is in another shard too")
                tensors[name] = tensor
        if checkpoint.index is not None:
            absent = sorted(set(weight_map(checkpoint.index)) - set(tensors))
            if absent:
                raise CheckpointError(f"{checkpoint.index}: its shards lack {', '.join(absent)}")
        yield tensors


def checksum(checkpoint: LocalCheckpoint) -> str:
    """Return the SHA-256 of the weights file, in hex; of several, that of all shards one after the other."""
    digest = hashlib.sha256()
    for path in checkpoint.weights:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


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
    with _atomic(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            little = tensors[name].astype(tensors[name].dtype.newbyteorder("<"), copy=False)
            file.write(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)


@contextmanager
def _atomic(path: Path) -> Iterator[IO[bytes]]:
    """Write beside `path` and put it in place only when it is whole and on disk."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _open_file(path: Path, stack: ExitStack) -> dict[str, SafetensorsTensor] | dict[str, TorchTensor]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from None
    if size == 0:
        raise CheckpointError(f"{path}: the file is empty; copy or download it again")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: a Git LFS pointer, not the weights; run 'git lfs pull' or download the file")
    return _open_safetensors(path, stack) if path.suffix == ".safetensors" else _open_torch(path)


def _open_safetensors(path: Path, stack: ExitStack) -> dict[str, SafetensorsTensor]:
    from safetensors import SafetensorError, safe_open

    try:
        # The library checks the header: spans that overlap, leave gaps or end beyond the file.
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); copy or download it again") from None
    file = stack.enter_context(path.open("rb"))
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    unreadable = sorted({entry["dtype"] for entry in header.values()} - set(_SAFETENSORS_TYPES))
    if unreadable:
        raise CheckpointError(
            f"{path}: tensors of type {', '.join(unreadable)} can't be read; store them as F16 or F32"
        )
    return {
        name: SafetensorsTensor(
            file,
            8 + length + entry["data_offsets"][0],
            tuple(entry["shape"]),
            _SAFETENSORS_TYPES[entry["dtype"]],
        )
        for name, entry in header.items()
    }


def _open_torch(path: Path) -> dict[str, TorchTensor]:
    import torch

    try:
        # Zip files are mapped into memory, so that a tensor takes room only once it is read.
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if asked := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path}: asks to run {asked[1]!r}, which weights never need; nothing of it was run; "
                "get the weights as safetensors"
            ) from None
        found = re.search(r"^(Unsupported .*|pickle .*)$", str(error), re.MULTILINE)
        detail = f" ({found[0]})" if found else ""
        raise CheckpointError(f"{path}: not a whole PyTorch weights file{detail}; nothing of it was run") from None
    except Exception as error:  # A damaged file makes torch raise nearly anything.
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise CheckpointError(f"{path}: not a whole PyTorch file ({reason}); copy or download it again") from None
    return {name: TorchTensor(tensor) for name, tensor in _state_dict(path, values).items()}


def _state_dict(path: Path, values: Any) -> Mapping[str, torch.Tensor]:
    import torch

    if not isinstance(values, Mapping) or not values:
        raise CheckpointError(f"{path}: holds {_describe(values)}, not a state dict of named tensors")
    others = [
        str(name)
        for name, value in values.items()
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized
    ]
    if others:
        names = ", ".join(others[:6]) + (" …" if len(others) > 6 else "")
        raise CheckpointError(
            f"{path}: not a state dict: no dense tensors under {names}; save the model's state_dict alone"
        )
    return {str(name): value for name, value in values.items()}


def _describe(values: Any) -> str:
    return f"a {type(values).__name__}" + (" without entries" if isinstance(values, Mapping) else "")
