"""TensorFlow checkpoints: variables of TensorFlow 1 by their names, and objects of TensorFlow 2."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.base.errors import CheckpointError
from pretrained_configs.formats.damage import unreadable
from pretrained_configs.formats.keras_file import transformers_name
from pretrained_configs.locate import TF_INDEX, files_of_prefix

_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT = "/.OPTIMIZER_SLOT/"


@dataclass(frozen=True, slots=True)
class TensorflowTensor:
    """A variable of a TensorFlow checkpoint; see `namemap.LazyTensor`."""

    index: Path
    reader: Any
    key: str
    shape: tuple[int, ...]
    dtype: str
    transposed: bool = False

    def read(self) -> np.ndarray:
        """Read the values: floating-point ones as float32.

        Raises:
            CheckpointError: if the data file is damaged.
        """
        try:
            values: np.ndarray = self.reader.get_tensor(self.key)
        except Exception as error:  # TensorFlow raises several kinds for a damaged data file.
            raise unreadable(error, f"{self.index}: {self.key} can't be read", "copy the checkpoint again") from None
        if self.dtype.startswith(("float", "bfloat")):
            values = np.asarray(values).astype(np.float32, copy=False)
        return values.T if self.transposed else values


def open_tensorflow(index: Path, stack: ExitStack) -> dict[str, TensorflowTensor]:
    """Open a checkpoint by its index file; it can be read until the stack is closed.

    Objects of TensorFlow 2 get the names that their transformers' class has in PyTorch, and their kernels its layout.

    Raises:
        CheckpointError: if TensorFlow is not installed, the index is damaged, or the data files are too short.
    """
    try:
        with silenced():
            import tensorflow as tf
    except ImportError:
        raise CheckpointError(f"{index}: a TensorFlow checkpoint; 'pip install tensorflow' to read it") from None
    prefix = index.with_name(index.name.removesuffix(TF_INDEX))
    try:
        reader = tf.train.load_checkpoint(str(_plainly_named(prefix, stack)))
        shapes = reader.get_variable_to_shape_map()
        dtypes = reader.get_variable_to_dtype_map()
    except Exception as error:  # TensorFlow raises several kinds for a damaged index.
        raise unreadable(error, f"{index}: not a TensorFlow checkpoint", "copy it again") from None
    # Strings, whose length the index keeps to itself, have the size 0 here.
    _check_size(prefix, sum(math.prod(shape) * dtypes[name].size for name, shape in shapes.items()))
    types = {name: dtype.name for name, dtype in dtypes.items()}
    if _OBJECT_GRAPH not in shapes:
        return {
            name: TensorflowTensor(index, reader, name, tuple(shapes[name]), types[name]) for name in sorted(shapes)
        }
    tensors = {}
    for key in sorted(shapes):
        if not key.endswith(_VALUE) or _SLOT in key:
            continue
        name, transposed = transformers_name(key.removesuffix(_VALUE), len(shapes[key]))
        shape = tuple(reversed(shapes[key])) if transposed else tuple(shapes[key])
        # A second one under the same name keeps its own, and is reported as unaccounted for.
        name = name if name not in tensors else key
        tensors[name] = TensorflowTensor(index, reader, key, shape, types[key], transposed)
    return tensors


def _plainly_named(prefix: Path, stack: ExitStack) -> Path:
    """Return a prefix that TensorFlow can open: the same one, or one of links where it would take it for a pattern.

    It looks for files that match the prefix, then opens what is called like the pattern: no way of writing "[" fits
    both. Names that are not UTF-8 it can't take at all.
    """
    try:
        prefix.as_posix().encode()
    except UnicodeEncodeError:
        plain = False
    else:
        plain = not set("*?[\\") & set(prefix.as_posix())
    if plain:
        return prefix
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tensorflow-")))
    for path in files_of_prefix(prefix):
        (directory / f"checkpoint{path.name.removeprefix(prefix.name)}").symlink_to(path.resolve())
    return directory / "checkpoint"


def _check_size(prefix: Path, needed: int) -> None:
    """Refuse data files that end too early, also where what they lack is not asked for."""
    held = sum(path.stat().st_size for path in files_of_prefix(prefix) if not path.name.endswith(TF_INDEX))
    if held < needed:
        raise CheckpointError(
            f"{prefix}: its .data files hold {held:,} bytes, its variables {needed:,}; copy the checkpoint again"
        )


@contextmanager
def silenced() -> Iterator[None]:
    """Drop what native code writes: importing TensorFlow logs lines that no setting turns off."""
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
