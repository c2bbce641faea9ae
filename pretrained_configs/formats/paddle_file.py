"""Weights that Paddle saved: model_state.pdparams, a pickle of named NumPy arrays; no code of it is run."""

from __future__ import annotations

import codecs
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.base.errors import CheckpointError
from pretrained_configs.formats.damage import unreadable

#: Paddle's own table beside the arrays: which of its variables each is.
_VARIABLES = "StructuredToParameterName@@"
#: All that a pickled array asks for, by the names of NumPy 1; NumPy 2 calls its "core" otherwise.
_ARRAYS: Mapping[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}


@dataclass(frozen=True, slots=True)
class PaddleTensor:
    """An array of a Paddle file; see `namemap.LazyTensor`."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """The stored shape."""
        return tuple(self.values.shape)

    @property
    def dtype(self) -> str:
        """The stored type, e.g. "float16"."""
        return str(self.values.dtype.name)

    def read(self) -> np.ndarray:
        """Return the values: floating-point ones as float32."""
        floats = np.issubdtype(self.values.dtype, np.floating)
        return self.values.astype(np.float32, copy=False) if floats else self.values


class _AsksForCodeError(Exception):
    """A pickle names something that arrays don't need."""


class _Unpickler(pickle.Unpickler):
    """Builds arrays and plain values, and nothing else that a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickled array asks for.

        Raises:
            _AsksForCodeError: for all else.
        """
        known = _ARRAYS.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise _AsksForCodeError(f"{module}.{name}")
        return known


def open_paddle(path: Path) -> dict[str, PaddleTensor]:
    """Read a file of named arrays.

    Raises:
        CheckpointError: if it is damaged, asks for code to be run, or holds something else.
    """
    try:
        with path.open("rb") as file:
            values = _Unpickler(file).load()
    except _AsksForCodeError as error:
        raise CheckpointError(
            f"{path}: asks to run '{error}', which named arrays never need; nothing of it was run; save the model's "
            "state_dict with paddle.save"
        ) from None
    except Exception as error:  # A damaged pickle raises nearly anything.
        raise unreadable(error, f"{path}: not a whole Paddle file", "copy or download it again") from None
    table = values if isinstance(values, dict) else {}
    arrays = {name: array for name, array in table.items() if name != _VARIABLES}
    others = [
        str(name) for name, array in arrays.items() if not isinstance(array, np.ndarray) or array.dtype.hasobject
    ]
    if not arrays or others:
        held = ", ".join(others[:6]) or type(values).__name__
        raise CheckpointError(f"{path}: not a table of named arrays ({held}); save the model's state_dict alone")
    return {str(name): PaddleTensor(array) for name, array in arrays.items()}
