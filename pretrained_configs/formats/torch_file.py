"""PyTorch files (zip and legacy pickles): never more than weights is loaded, and no code is run."""

from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preprocess.base.errors import CheckpointError
from pretrained_configs.formats.damage import unreadable


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


def open_torch(path: Path) -> dict[str, TorchTensor]:
    """Open a file of named tensors, or of a training run that holds them beside other things.

    Raises:
        CheckpointError: if it is damaged, asks for code to be run, or holds no weights.
        OSError, MemoryError: if the machine is at fault.
    """
    zipped = _starts_as_zip(path)
    if zipped and not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path}: not a whole PyTorch file (its end is missing); copy or download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # What matters of a refused pickle is in the error.
            # What torch.save wrote is mapped into memory, so that a tensor takes room only once it is read.
            values = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped and _can_be_mapped(path))
    except pickle.UnpicklingError as error:
        if asked := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path}: asks to run {asked[1]!r}, which weights never need; nothing of it was run; "
                "get the weights as safetensors"
            ) from None
        reason = re.search(r"^(Unsupported .*|pickle .*)$", str(error), re.MULTILINE)
        detail = f" ({reason[0]})" if reason else ""
        raise CheckpointError(
            f"{path}: not a whole PyTorch weights file{detail}; nothing of it was run; "
            "copy it again, or get the weights as safetensors"
        ) from None
    except Exception as error:  # A damaged file makes torch raise nearly anything.
        raise unreadable(error, f"{path}: not a whole PyTorch file", "copy or download it again") from None
    return {name: TorchTensor(tensor) for name, tensor in _state_dict(path, values).items()}


def _starts_as_zip(path: Path) -> bool:
    """Tell the two forms apart as torch.load does; a zip's end mark may stand by chance in a legacy file."""
    with path.open("rb") as file:
        return b"PK\x03\x04".startswith(file.read(4))


def _can_be_mapped(path: Path) -> bool:
    """Say whether the values lie in a zip file as torch.save puts them, so that mapping them is reading them.

    torch.load maps records without a look at how they are stored: one that is compressed, or shorter than the tensor
    that it is for, would give whatever bytes lie there. What is not plain is left to torch.load without mapping, and
    that unpacks records and checks their sizes.
    """
    try:
        os.fspath(path).encode()  # torch.load maps no file whose name is not UTF-8
        with zipfile.ZipFile(path) as archive:
            records = {record.filename: record for record in archive.infolist()}
            pickled = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(records) < len(archive.infolist()) or len(pickled) != 1:
                return False
            sizes = _Sizes(archive.open(pickled[0])).by_record()
            root = pickled[0].removesuffix("data.pkl")
            return all(_lies_plain(records[f"{root}data/{key}"], size, path) for key, size in sizes.items())
    except (zipfile.BadZipFile, pickle.UnpicklingError, LookupError, TypeError, ValueError, EOFError, AttributeError):
        return False


def _lies_plain(record: zipfile.ZipInfo, size: int, path: Path) -> bool:
    stored = record.compress_type == zipfile.ZIP_STORED and not record.flag_bits & 1
    return stored and record.file_size == size and record.header_offset + size <= os.path.getsize(path)


class _Nothing(dict):
    """Stands for everything that a pickle asks for, and does nothing."""

    def __init__(self, *_: Any) -> None:
        """Take any arguments."""
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        """Take any state."""


class _Sizes(pickle.Unpickler):
    """Reads off a pickle how large its records are to be; nothing that it names is imported, built or run."""

    def by_record(self) -> dict[str, int]:
        """Return record -> bytes."""
        self._sizes: dict[str, int] = {}
        self.load()
        return self._sizes

    def find_class(self, module: str, name: str) -> Any:
        """Return the storage type for its name, to be measured; else nothing."""
        storage = module.partition(".")[0] == "torch" and name.endswith("Storage")
        return getattr(torch, name, torch.UntypedStorage) if storage else _Nothing

    def persistent_load(self, saved: Any) -> Any:
        """Take note of a record: ("storage", type, key, location, number of elements)."""
        _, kind, key, _, n_elements = saved
        item = 1 if kind is torch.UntypedStorage else kind.dtype.itemsize
        self._sizes[str(key)] = n_elements * item
        return _Nothing()


#: Where training programs put the model's state dict.
_NESTED = ("state_dict", "model_state_dict", "model", "module", "net")


def _state_dict(path: Path, values: Any) -> Mapping[str, torch.Tensor]:
    if not isinstance(values, Mapping) or not values:
        held = _describe(values)
        raise CheckpointError(f"{path}: holds {held}, not a state dict of named tensors; save the model's state_dict")
    while nested := [key for key in _NESTED if isinstance(values.get(key), Mapping) and values[key]]:
        values = values[nested[0]]
    others = [
        str(name)
        for name, value in values.items()
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized
    ]
    if {"state", "param_groups"} <= set(map(str, values)):
        raise CheckpointError(f"{path}: holds an optimizer's state alone, no weights; give the model's file")
    if others:
        names = ", ".join(others[:6]) + (" …" if len(others) > 6 else "")
        raise CheckpointError(
            f"{path}: not a state dict: no dense tensors under {names}; save the model's state_dict alone"
        )
    if empty := next((name for name, value in values.items() if value.is_meta), None):
        raise CheckpointError(
            f"{path}: {empty} has a shape and no values: the model was saved on the meta device; save it when "
            "its weights are there"
        )
    return {str(name): value for name, value in values.items()}


def _describe(values: Any) -> str:
    return f"a {type(values).__name__}" + (" without entries" if isinstance(values, Mapping) else "")
