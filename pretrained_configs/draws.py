"""Random values of parameters that methods draw: the same in every framework and on every device."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pretrained_configs.report import Shape


def normal(name: str, shape: Shape, std: float, seed: int) -> NDArray[np.float32]:
    """Draw from a normal distribution of mean 0; each name has a draw of its own."""
    return (std * _generator(name, seed).standard_normal(shape, np.float32)).astype(np.float32)


def fresh(shapes: Mapping[str, Shape], std: float, seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw parameters as published programs do before pre-training.

    Args:
        shapes: by their framework-neutral names.
        std: the configuration's initializer_range.
        seed: of all of them.

    Returns:
        normal(0, std) cut at two std; 1 for the scales of LayerNorms, and 0 for biases.
    """
    return {name: _fresh(name, shape, std, seed) for name, shape in shapes.items()}


def _fresh(name: str, shape: Shape, std: float, seed: int) -> NDArray[np.float32]:
    leaf = name.rpartition(".")[2]
    if len(shape) == 1 and leaf in ("weight", "bias"):
        return np.full(shape, float(leaf == "weight"), np.float32)
    generator = _generator(name, seed)
    values = generator.standard_normal(shape, np.float32)
    while (far := np.abs(values) > 2).any():
        values[far] = generator.standard_normal(int(far.sum()), np.float32)
    return (std * values).astype(np.float32)


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, zlib.crc32(name.encode())])))
