"""Weights that transformers 4 saved from its Keras classes: tf_model.h5, and how its names became PyTorch's."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from preprocess.base.errors import CheckpointError
from pretrained_configs.formats.damage import unreadable

if TYPE_CHECKING:
    import h5py

#: What a Keras variable is called in PyTorch. (Two embedding tables of TensorFlow 2 objects have no leaf.)
_LEAVES = {"kernel": "weight", "gamma": "weight", "beta": "bias", "embeddings": "weight", "weight": "weight"}

#: Attributes of the Keras classes -> of the PyTorch ones.
_ATTRIBUTES = {"self_attention": "self", "dense_output": "output", "bert_output": "output"}

#: The modules at which a PyTorch name begins.
_ROOTS = (
    *("bert", "albert", "electra", "roberta", "transformer"),
    *("qa_outputs", "classifier", "sequence_summary", "cls", "mlm", "nsp", "predictions", "lm_head", "lm_loss"),
)
_TABLES = ("position_embeddings", "token_type_embeddings")


@dataclass(frozen=True, slots=True)
class H5Tensor:
    """A dataset of an HDF5 file; see `namemap.LazyTensor`."""

    path: Path
    dataset: h5py.Dataset
    transposed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in PyTorch's layout."""
        shape = tuple(self.dataset.shape or ())
        return shape[::-1] if self.transposed else shape

    @property
    def dtype(self) -> str:
        """The stored type, e.g. "float16", in whichever byte order."""
        return str(self.dataset.dtype.name)

    def read(self) -> np.ndarray:
        """Read the values: floating-point ones as float32.

        Raises:
            CheckpointError: if a part of the file is damaged, or packed in a way that is not known here.
        """
        try:
            values = np.asarray(self.dataset[()])
        except (OSError, RuntimeError, MemoryError) as error:
            what = f"{self.path}: {self.dataset.name} can't be read"
            raise unreadable(error, what, "copy or download the file again") from None
        if np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float32, copy=False)
        return values.T if self.transposed else values


def open_h5(path: Path, stack: ExitStack) -> dict[str, H5Tensor]:
    """Open a tf_model.h5; it stays open until the stack is closed.

    Raises:
        CheckpointError: if h5py is not installed, or the file is damaged.
    """
    try:
        import h5py
    except ImportError:
        raise CheckpointError(f"{path}: an HDF5 file; 'pip install h5py' to read it") from None
    try:
        file = stack.enter_context(h5py.File(path, "r"))
        datasets: list[tuple[str, Any]] = []
        file.visititems(lambda name, item: datasets.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    except (OSError, RuntimeError) as error:
        raise unreadable(error, f"{path}: not a whole HDF5 file", "copy or download it again") from None
    tensors: dict[str, H5Tensor] = {}
    for key, dataset in datasets:
        name, transposed = transformers_name(key, len(dataset.shape or ()))
        # A second one under the same name keeps its own, and is reported as unaccounted for.
        tensors[name if name not in tensors else key] = H5Tensor(path, dataset, transposed)
    return tensors


def transformers_name(key: str, ndim: int) -> tuple[str, bool]:
    """Return the name that a Keras variable of transformers has in PyTorch, and whether its axes are swapped there.

    Args:
        key: the path of an HDF5 dataset, or of a TensorFlow 2 object.
        ndim: the number of the variable's axes.
    """
    # Keras writes lists as "layer_._0", and "nsp___cls" for a module "cls" of a class that calls it "nsp".
    parts = re.sub(r"[^/]*___", "", key.removesuffix(":0").replace("_._", "/")).split("/")
    parts = [_ATTRIBUTES.get(part, part) for part in parts]
    # In front stand the group and the class's own name; the last root that occurs is where PyTorch's name begins.
    roots = [i for i, part in enumerate(parts[:-1]) if part in _ROOTS]
    if roots:
        start = roots[-1]
        if parts[start] == "predictions" and start > 0 and parts[start - 1] in _ROOTS:
            start -= 1
        parts = parts[start:]
    leaf = parts[-1]
    if leaf in _TABLES:
        return ".".join([*parts, "weight"]), False
    if leaf == "weight" and parts[-2] == "embeddings":
        return ".".join([*parts[:-1], "word_embeddings", "weight"]), False
    return ".".join([*parts[:-1], _LEAVES.get(leaf, leaf)]), leaf == "kernel" and ndim == 2
