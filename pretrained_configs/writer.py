"""Checkpoints written in a published format: weights and configuration, as its programs look for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.base.errors import CheckpointError
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.safetensors_file import write_safetensors
from pretrained_configs.namemap import NameMap
from pretrained_configs.published import write_values

#: What `write_values` calls a head -> a parameter that only models with it have.
_HEADS = {"span": "head.span.weight", "span_given": "head.end.hidden.weight", "piece": "head.piece.bias"}


def write_checkpoint(
    directory: Path, config: ModelConfig, ours: Mapping[str, np.ndarray], namemap: NameMap
) -> list[Path]:
    """Write a model.

    Args:
        directory: must exist.
        config: its architecture.
        ours: its parameters by their framework-neutral names; a "head.span" makes it a fine-tuned one, and so does
            a "head.end" that is given a start; a "head.piece" one that guesses hidden pieces.
        namemap: the format, as `published.format_for` gives it.

    Returns:
        the files.

    Raises:
        CheckpointError: naming every parameter that the format has no place for.
    """
    tensors = namemap.to_theirs(ours, config.num_attention_heads)
    head = next((name for name, parameter in _HEADS.items() if parameter in ours), None)
    values = write_values(config, namemap, head)
    target = namemap.values["config"]["target"]
    config_name = "config.json" if target in ("transformers", "native") else config.family.config_file
    path = directory / config_name
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return [path, *_WRITERS[target](directory, tensors)]


def _write_safetensors(directory: Path, tensors: Mapping[str, np.ndarray]) -> list[Path]:
    path = directory / "model.safetensors"
    write_safetensors(path, tensors)
    return [path]


def _write_torch(directory: Path, tensors: Mapping[str, np.ndarray]) -> list[Path]:
    import torch

    path = directory / "pytorch_model.pth"
    torch.save({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}, path)
    return [path]


def _write_tensorflow(directory: Path, tensors: Mapping[str, np.ndarray]) -> list[Path]:
    from pretrained_configs.formats.tensorflow_file import silenced

    try:
        with silenced():
            import tensorflow as tf
    except ImportError:
        raise CheckpointError(f"{directory}: 'pip install tensorflow' to write a TensorFlow checkpoint") from None
    prefix = directory / "model.ckpt"
    names = sorted(tensors)
    try:
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[np.ascontiguousarray(tensors[name]) for name in names],
        )
    except tf.errors.OpError as error:  # a full disk
        reason = error.message.rpartition("}} ")[2]  # what is before names the operation
        raise OSError(f"{prefix}: can't be written: {reason}") from None
    return sorted(directory.glob(f"{prefix.name}.*"))


#: Target -> what writes its weights file.
_WRITERS: Mapping[str, Any] = {
    "transformers": _write_safetensors,
    "native": _write_safetensors,
    "reference": _write_torch,
    "tf1": _write_tensorflow,
}
