"""TensorFlow checkpoints: variables of TensorFlow 1 by their names, and objects of TensorFlow 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretrained_configs.config import CheckpointError
from pretrained_configs.keras_file import transformers_name
from pretrained_configs.locate import TF_INDEX

_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT = "/.OPTIMIZER_SLOT/"


@dataclass(frozen=True, slots=True)
class TensorflowTensor:
    """A variable of a TensorFlow checkpoint; see `namemap.LazyTensor`."""

    reader: Any
    key: str
    shape: tuple[int, ...]
    dtype: str
    transposed: bool = False

    def read(self) -> np.ndarray:
        """Read the values: floating-point ones as float32.

        Raises:
            CheckpointError: if the data file ends before them.
        """
        try:
            values: np.ndarray = self.reader.get_tensor(self.key)
        except Exception as error:  # TensorFlow raises several kinds for a damaged data file.
            reason = " ".join(str(error).split())[:160]
            raise CheckpointError(f"{self.key}: can't be read ({reason}); copy the checkpoint again") from None
        if self.dtype.startswith(("float", "bfloat")):
            values = np.asarray(values).astype(np.float32, copy=False)
        return values.T if self.transposed else values


def open_tensorflow(index: Path) -> dict[str, TensorflowTensor]:
    """Open a checkpoint by its index file.

    Objects of TensorFlow 2 get the names that their transformers' class has in PyTorch, and their kernels its layout.

    Raises:
        CheckpointError: if TensorFlow is not installed, or the index is damaged.
    """
    try:
        import tensorflow as tf
    except ImportError:
        raise CheckpointError(f"{index}: a TensorFlow checkpoint; 'pip install tensorflow' to read it") from None
    prefix = str(index.with_name(index.name.removesuffix(TF_INDEX)))
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
        types = {name: dtype.name for name, dtype in reader.get_variable_to_dtype_map().items()}
    except Exception as error:  # TensorFlow raises several kinds for a damaged index.
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{index}: not a TensorFlow checkpoint ({reason}); copy it again") from None
    if _OBJECT_GRAPH not in shapes:
        return {name: TensorflowTensor(reader, name, tuple(shapes[name]), types[name]) for name in sorted(shapes)}
    tensors = {}
    for key in sorted(shapes):
        if not key.endswith(_VALUE) or _SLOT in key:
            continue
        name, transposed = transformers_name(key.removesuffix(_VALUE), len(shapes[key]))
        shape = tuple(reversed(shapes[key])) if transposed else tuple(shapes[key])
        tensors[name] = TensorflowTensor(reader, key, shape, types[key], transposed)
    return tensors
