"""The tensors of checkpoint files as {published name: numpy array}, read one at a time.

Read are safetensors, PyTorch files (zip and legacy), TensorFlow checkpoints, Keras' HDF5 and Paddle's files, whole or
sharded.
Half-precision values become float32. Torch is imported only for a PyTorch file, TensorFlow only for a TensorFlow one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from preprocess.base.errors import CheckpointError
from preprocess.base.hashing import sha256
from pretrained_configs.formats.safetensors_file import open_safetensors, write_safetensors
from pretrained_configs.locate import TF_INDEX, LocalCheckpoint, weight_map
from pretrained_configs.namemap import LazyTensor
from pretrained_configs.report import MisfitError

__all__ = ["LocalCheckpoint", "Tensors", "checksum", "open_tensors", "write_safetensors"]

Tensors = Mapping[str, LazyTensor]

#: How text begins: no weights file does so, as all have a number or a mark of their own among their first 8 bytes.
_TEXT = re.compile(rb"(?:\xef\xbb\xbf)?[\t\n\r -~]{8}")


@contextmanager
def open_tensors(checkpoint: LocalCheckpoint) -> Iterator[Tensors]:
    """Open the weights; their values are read one tensor at a time, while the context lasts.

    Raises:
        CheckpointError: if a file is empty, truncated, no weights file, or asks for code to be run; and, with the
            files' names added, if the tensors don't fit the model that they are loaded into.
    """
    with ExitStack() as stack:
        tensors: dict[str, LazyTensor] = {}
        for path in checkpoint.weights:
            _refuse_what_is_no_weights_file(path)
        for path in checkpoint.weights:
            for name, tensor in _open_file(path, stack).items():
                if name in tensors:
                    raise CheckpointError(f"{path}: tensor {name!r} is in another shard too")
                tensors[name] = tensor
        if checkpoint.index is not None:
            absent = sorted(set(weight_map(checkpoint.index)) - set(tensors))
            if absent:
                lacking = ", ".join(absent)
                raise CheckpointError(f"{checkpoint.index}: its shards lack {lacking}; download all of them again")
        try:
            yield tensors
        except MisfitError as error:
            weights = checkpoint.index or checkpoint.weights[0]
            raise CheckpointError(f"{weights} with {checkpoint.config}: {error}") from None


def checksum(checkpoint: LocalCheckpoint) -> str:
    """Return the SHA-256 of the weights file, in hex; of several, that of all shards one after the other."""
    return sha256(*checkpoint.weights)


def _refuse_what_is_no_weights_file(path: Path) -> None:
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
    # A data file of TensorFlow's is bare numbers, which may look like anything.
    if _TEXT.match(start) and not path.suffix.startswith(".data-"):
        text = " ".join(start.decode("utf-8", "replace").split())
        raise CheckpointError(f"{path}: text ({text!r} …), not weights, as of a failed download; download it again")


def _open_file(path: Path, stack: ExitStack) -> Mapping[str, LazyTensor]:
    if path.suffix == ".safetensors":
        return open_safetensors(path, stack)
    if path.suffix == TF_INDEX:
        from pretrained_configs.formats.tensorflow_file import open_tensorflow

        return open_tensorflow(path, stack)
    if path.suffix.startswith(".data-"):
        return {}  # its tensors are reached through the index
    if path.suffix == ".h5":
        from pretrained_configs.formats.keras_file import open_h5

        return open_h5(path, stack)
    if path.suffix == ".pdparams":
        from pretrained_configs.formats.paddle_file import open_paddle

        return open_paddle(path)
    from pretrained_configs.formats.torch_file import open_torch

    return open_torch(path)
