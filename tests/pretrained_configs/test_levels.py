"""How high parameters stand, and what methods draw."""

from __future__ import annotations

import numpy as np
import pytest

from pretrained_configs.config import ModelConfig
from pretrained_configs.draws import fresh, normal
from pretrained_configs.levels import levels, n_levels
from pretrained_configs.parameters import parameter_shapes

ALBERT = {"model_type": "albert", "embedding_size": 8, "embedding_projection": "output"}
XLNET = {"model_type": "xlnet", "untie_r": False}


def _levels(**changes):
    config = ModelConfig(50, 16, 3, 2, 24, **changes)
    return n_levels(config), levels(config, parameter_shapes(config, pooled=True, heads={"at": 2}))


@pytest.mark.parametrize(
    ("changes", "n", "expected"),
    [
        ({}, 3, {"embeddings.norm.bias": 0, "layers.0.ffn.up.weight": 1, "layers.2.ffn_norm.weight": 3}),
        (ALBERT, 1, {"embeddings.word.weight": 0, "projection.weight": 0, "groups.0.0.attention.qkv.bias": 1}),
        (XLNET, 3, {"biases.content": 0, "layers.1.attention.segments.weight": 2}),
    ],
    ids=["bert", "albert", "xlnet"],
)
def test_levels_count_layers_with_parameters_of_their_own(changes, n, expected):
    top, found = _levels(**changes)
    assert top == n and set(found.values()) == set(range(n + 2))
    assert {**found, **expected, "pooler.bias": n + 1, "head.at.weight": n + 1} == found


def test_tenth_layer_is_not_the_first():
    config = ModelConfig(50, 16, 12, 2, 24)
    assert levels(config, ["layers.1.ffn.up.bias", "layers.11.ffn.up.bias"]) == {
        "layers.1.ffn.up.bias": 2,
        "layers.11.ffn.up.bias": 12,
    }


def test_fresh_values_are_those_before_pre_training():
    values = fresh({"a.weight": (400, 50), "b.weight": (400, 50), "norm.weight": (5,), "norm.bias": (5,)}, 0.02, 1)
    assert (values["norm.weight"] == 1).all() and (values["norm.bias"] == 0).all()
    assert np.abs(values["a.weight"]).max() <= 0.04 and not np.array_equal(values["a.weight"], values["b.weight"])
    assert values["a.weight"].std() == pytest.approx(0.02 * 0.8796, rel=0.02)  # of what is cut at two deviations
    vector = fresh({"biases.content": (2000,)}, 0.02, 1)["biases.content"]  # XLNet's are no plain biases
    assert vector.std() == pytest.approx(0.02 * 0.8796, rel=0.05)


def test_normal_values_depend_on_name_and_seed():
    values = normal("a", (3000,), 0.5, 1)
    assert values.dtype == np.float32 and values.std() == pytest.approx(0.5, rel=0.05)
    np.testing.assert_array_equal(values, normal("a", (3000,), 0.5, 1))
    assert not np.array_equal(values, normal("b", (3000,), 0.5, 1))
    assert not np.array_equal(values, normal("a", (3000,), 0.5, 2))
