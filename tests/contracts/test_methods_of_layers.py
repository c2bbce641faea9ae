"""Methods that go by layers, or average weights, compute in both frameworks what their formulas give in numpy."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

from preprocess.types import HeadSpec, Output
from pretrained_configs.checkpoint import read_checkpoint
from tests.support.methods import (
    CONFIG,
    LORA,
    TABLE,
    asking,
    assert_close,
    assert_equal,
    method_batch,
    method_trainer,
    moments,
    used_gradients,
    weights,
)
from tests.support.values import SPAN


@pytest.fixture(params=["pytorch_modeling", "tf_modeling"])
def backend(request):
    return importlib.import_module(request.param)


# --- averages ---


def test_average_follows_its_recursion_and_changes_places_with_the_weights(backend):
    trainer = method_trainer(backend, asking(ema_decay=0.75))
    average = {name: values.astype(np.float64) for name, values in weights(backend, trainer).items()}
    for seed in range(3):
        trainer.step([method_batch(seed)])
        now = weights(backend, trainer)
        average = {name: 0.75 * mean + 0.25 * now[name] for name, mean in average.items()}
    with trainer.evaluating():
        assert_close(weights(backend, trainer), average, atol=1e-7)
    assert_equal(weights(backend, trainer), now)
    assert np.abs(average[TABLE] - now[TABLE]).max() > 1e-4
    other = method_trainer(backend, asking(ema_decay=0.75))
    other.load_state_dict(trainer.state_dict())
    for one in (trainer, other):
        one.step([method_batch(3)])
    with trainer.evaluating(), other.evaluating():
        assert_equal(weights(backend, other), weights(backend, trainer))


# --- layers ---


def _level(name):
    return 3 if name.startswith("head.") else int(name.split(".")[1]) + 1 if name.startswith("layers.") else 0


def test_each_layer_moves_and_decays_by_its_own_rate(backend):
    """Adam's first step moves each element by the rate, whatever its gradient is."""
    trainer = method_trainer(backend, asking(layerwise_lr_decay=0.5, learning_rate=1e-2, weight_decay=0.1))
    before = weights(backend, trainer)
    trainer.step([method_batch()])
    after, used = weights(backend, trainer), used_gradients(trainer)
    assert trainer.metrics()["learning_rate"] == pytest.approx(1e-2)
    for name, values in before.items():
        rate = {0: 0.25e-2, 1: 0.5e-2, 2: 1e-2, 3: 1e-2}[_level(name)]
        decayed = values * (1 - rate * 0.1) if values.ndim > 1 else values
        learned = np.abs(used[name]) > 1e-6
        expected = decayed - rate * np.sign(used[name])
        np.testing.assert_allclose(after[name][learned], expected[learned], atol=1e-6, err_msg=name)
    unused = sorted(set(range(30)) - set(np.unique(method_batch().inputs["input_ids"])))
    np.testing.assert_allclose(after[TABLE][unused], before[TABLE][unused] * (1 - 0.25e-2 * 0.1), rtol=1e-6)


def test_frozen_layers_stay_and_have_no_optimizer_state(backend):
    trainer = method_trainer(backend, asking(freeze_layers=1))
    before = weights(backend, trainer)
    _, gradients = backend.gradients(method_trainer(backend).model, method_batch(), precision="fp32")
    trainer.step([method_batch()])
    learned = {name for name in before if _level(name) > 1}
    assert_close(used_gradients(trainer), {name: gradients[name] for name in learned})
    after = weights(backend, trainer)
    for name, values in after.items():
        assert np.array_equal(values, before[name]) == (name not in learned), name
    other = method_trainer(backend, asking(freeze_layers=1))
    backend.set_parameters(other.model, {name: values * 0 for name, values in before.items()})
    other.load_state_dict(trainer.state_dict())
    assert_equal(weights(backend, other), after)  # what is frozen comes back with the state


def test_last_layers_and_pooler_are_drawn_anew(backend):
    head = HeadSpec((Output("sort", reads="sequence", size=3, loss="class"),))
    before = weights(backend, method_trainer(backend, head=head))
    found = weights(backend, method_trainer(backend, asking(reinit_layers=1, seed=7), head=head))
    again = weights(backend, method_trainer(backend, asking(reinit_layers=1, seed=7), head=head))
    other = weights(backend, method_trainer(backend, asking(reinit_layers=1, seed=8), head=head))
    drawn = {name for name in before if name.startswith(("layers.1.", "pooler."))}
    for name, values in found.items():
        np.testing.assert_array_equal(values, again[name], err_msg=name)
        if name not in drawn:
            np.testing.assert_array_equal(values, before[name], err_msg=name)
        elif name.endswith("norm.weight"):
            assert (values == 1).all()
        elif values.ndim == 1:
            assert (values == 0).all()
        else:
            assert not np.array_equal(values, before[name]) and not np.array_equal(values, other[name])
            # A normal distribution cut at two deviations has 0.88 of the deviation.
            assert np.abs(values).max() <= 0.4 and values.std() == pytest.approx(0.2 * 0.88, rel=0.2)


# --- LoRA ---


def test_lora_learns_changes_of_low_rank_and_the_head_alone(backend, tmp_path):
    trainer = method_trainer(backend, asking(**LORA))
    published = weights(backend, method_trainer(backend))
    with trainer.evaluating():
        assert_equal(weights(backend, trainer), published)  # B is 0
    batch = method_batch()
    for seed in range(3):
        trainer.step([method_batch(seed)])
    learned = moments(trainer)
    changes = [f"layers.{i}.{place}" for i in range(2) for place in ("attention.qkv", "ffn.down")]
    assert learned.keys() == {
        *(f"{place}.lora_{way}" for place in changes for way in ("down", "up")), "head.span.weight", "head.span.bias",
    }  # fmt: skip
    state = trainer.state_dict()["model"]
    outside = backend.activations(trainer.model, batch, precision="fp32")
    with trainer.evaluating():
        merged = weights(backend, trainer)
        inside = backend.activations(trainer.model, batch, precision="fp32")
        backend.save_weights(trainer.model, tmp_path)
    assert_close(inside, outside, atol=1e-5)
    assert merged.keys() == published.keys()
    for name, values in merged.items():
        change = values - published[name]
        place = name.removesuffix(".weight")
        if name.startswith("head."):
            assert np.abs(change).max() > 0
        elif place not in changes:
            np.testing.assert_array_equal(change, 0, err_msg=name)
        else:
            down, up = state[f"{place}.lora_down"], state[f"{place}.lora_up"]
            products = [6.0 / 2 * b @ a for a, b in zip(down, up, strict=True)]
            if place.endswith("qkv"):
                products.insert(1, np.zeros((16, 16)))  # keys are no target
            np.testing.assert_allclose(change, np.concatenate(products), atol=1e-6, err_msg=name)
            assert np.abs(change).max() > 1e-3
    for name, values in published.items():
        if not name.startswith("head."):
            np.testing.assert_array_equal(trainer.state_dict()["model"][name], values, err_msg=name)
    # What was saved is an ordinary checkpoint.
    ordinary = backend.build_model(CONFIG, SPAN, device="cpu", seed=9)
    backend.load_weights(ordinary, read_checkpoint(tmp_path), fresh_head=False)
    assert_equal(backend.parameter_values(ordinary), merged)


def test_layers_that_share_parameters_are_adapted_once(backend):
    albert = dataclasses.replace(CONFIG, model_type="albert", embedding_size=8, embedding_projection="output")
    trainer = method_trainer(backend, asking(layerwise_lr_decay=0.5, **LORA), albert)
    assert [name for name in trainer.state_dict()["model"] if name.endswith("qkv.lora_up")] == [
        "groups.0.0.attention.qkv.lora_up"
    ]
    with trainer.evaluating():
        assert weights(backend, trainer).keys() == weights(backend, method_trainer(backend, config=albert)).keys()
