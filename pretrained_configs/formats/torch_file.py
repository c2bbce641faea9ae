"""PyTorch files (zip and legacy pickles): never more than weights is loaded, and no code is run."""

from __future__ import annotations

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
    """
    zipped = zipfile.is_zipfile(path)
    if not zipped and _starts_as_zip(path):
        raise CheckpointError(f"{path}: not a whole PyTorch file (its end is missing); copy or download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # What matters of a refused pickle is in the error.
            # Zip files are mapped into memory, so that a tensor takes room only once it is read.
            values = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if asked := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path}: asks to run {asked[1]!r}, which weights never need; nothing of it was run; "
                "get the weights as safetensors"
            ) from None
        found = re.search(r"^(Unsupported .*|pickle .*)$", str(error), re.MULTILINE)
        detail = f" ({found[0]})" if found else ""
        raise CheckpointError(
            f"{path}: not a whole PyTorch weights file{detail}; nothing of it was run; "
            "copy it again, or get the weights as safetensors"
        ) from None
    except Exception as error:  # A damaged file makes torch raise nearly anything.
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise CheckpointError(f"{path}: not a whole PyTorch file ({reason}); copy or download it again") from None
    return {name: TorchTensor(tensor) for name, tensor in _state_dict(path, values).items()}


def _starts_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


#: Where training programs put the model's state dict.
_NESTED = ("state_dict", "model_state_dict", "model", "module", "net")


def _state_dict(path: Path, values: Any) -> Mapping[str, torch.Tensor]:
    if not isinstance(values, Mapping) or not values:
        held = _describe(values)
        raise CheckpointError(f"{path}: holds {held}, not a state dict of named tensors; save the model's state_dict")
    nested = [key for key in _NESTED if isinstance(values.get(key), Mapping) and values[key]]
    if nested:
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
    return {str(name): value for name, value in values.items()}


def _describe(values: Any) -> str:
    return f"a {type(values).__name__}" + (" without entries" if isinstance(values, Mapping) else "")
