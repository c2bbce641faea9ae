"""The tell-tale signs of a bad load: each is reported, and sound weights give no alarm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pretrained_configs.config import ModelConfig
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.sanity import suspicions

CONFIG = ModelConfig(vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)


def sound() -> Iterator[tuple[str, np.ndarray]]:
    random = np.random.RandomState(0)
    for name, shape in parameter_shapes(CONFIG, pooled=True).items():
        yield name, random.normal(1.0 if name.endswith("norm.weight") else 0.0, 0.04, shape).astype(np.float32)


def changed(change) -> list[str]:
    return suspicions(CONFIG, ((name, change(name, values)) for name, values in sound()))


def test_sound_weights_raise_no_alarm():
    assert suspicions(CONFIG, sound()) == []
    assert suspicions(CONFIG, sound(), max_seq_length=512) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda name, x: np.ones_like(x) if name.endswith("norm.weight") else x,
            "every LayerNorm weight is exactly 1",
        ),
        (
            lambda name, x: np.ones_like(x) if name == "layers.1.ffn_norm.weight" else x,
            "that are all exactly 1: layers.1.ffn_norm.weight",
        ),
        (
            lambda name, x: np.zeros_like(x) if "ffn.up" in name else x,
            r"one value throughout: layers.{0..1}.ffn.up.weight",
        ),
        (lambda name, x: x * 100 if name == "embeddings.word.weight" else x, "2e.02 times initializer_range"),
        (lambda name, x: x / 100 if name == "embeddings.word.weight" else x, "0.02 times initializer_range"),
        (lambda name, x: x + np.inf if name == "pooler.bias" else x, "infinite or not a number: pooler.bias"),
        (lambda name, x: x * np.nan if name == "pooler.bias" else x, "infinite or not a number: pooler.bias"),
    ],
)
def test_each_sign_is_reported(change, message):
    found = changed(change)
    assert len(found) == 1
    import re

    assert re.search(message, found[0]), found


def test_position_table_that_is_longer_than_the_stated_limit_is_reported():
    (found,) = suspicions(CONFIG, sound(), max_seq_length=256)
    assert "512 rows" in found and "256 tokens" in found
