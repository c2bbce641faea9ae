"""A file of weights read by us and by the library that wrote it: both read the same, or both refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocess.base.errors import CheckpointError
from pretrained_configs.formats.reader import open_tensors
from pretrained_configs.locate import files_of

CONFIG = {"vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6}
ARRAYS = {
    "a.weight": np.arange(1000, dtype=np.float32).reshape(10, 100),
    "a.bias": np.linspace(-1, 1, 7, dtype=np.float32),
    "ids": np.arange(5, dtype=np.int64),
}


def read(path: Path) -> dict[str, np.ndarray]:
    with open_tensors(files_of(path)) as tensors:
        return {name: np.array(tensor.read()) for name, tensor in tensors.items()}


def agree(path: Path, library: Callable[[Path], dict[str, np.ndarray]]) -> bool:
    """Read a file with both; return whether both read it, and fail unless both read the same or both refuse."""
    try:
        expected = library(path)
    except Exception:
        with pytest.raises(CheckpointError) as error:
            read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        return False
    found = read(path)
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape and np.array_equal(found[name], array), name
    return True
