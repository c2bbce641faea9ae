"""The encoder against its PyTorch twin and the golden outputs, and weights across frameworks."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import pytorch_modeling
import tf_modeling
from preprocess.base.errors import CheckpointError
from pretrained_configs.checkpoint import read_checkpoint
from tests.support.values import SPAN
from tf_modeling import (
    allow_tf32,
    build_model,
    check_weights,
    device_facts,
    devices,
    hidden_states,
    load_weights,
    parameter_shapes,
    predict,
    save_weights,
    set_seed,
)
from tf_modeling.layers import GroupedLinear, position_ids
from tf_modeling.model import parameters
from tf_modeling.nn import Linear, Pass

#: The golden README: the smallest error of any wrong setting is 6e-5, the noise of float32 1.5e-6.
ATOL = 2e-5


def _inputs(batch):
    return batch.inputs["input_ids"], batch.inputs["attention_mask"], batch.inputs["token_type_ids"]


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parity
def test_every_layer_equals_the_twins(twins, config, make_batch, variant, left):
    theirs, ours = twins(config(layer_norm_eps=1e-3, **variant), None)
    assert parameter_shapes(ours) == pytorch_modeling.parameter_shapes(theirs)
    inputs = _inputs(make_batch(length=24, padded=True, left=left))
    found, expected = hidden_states(ours, *inputs), pytorch_modeling.hidden_states(theirs, *inputs)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=ATOL, err_msg=name)


@pytest.mark.parametrize("backend", [pytorch_modeling, tf_modeling], ids=["pytorch", "tensorflow"])
@pytest.mark.parametrize("n_rows", [1, 2])
def test_last_row_of_a_short_segment_table_stands_for_all_further_segments(config, make_batch, backend, n_rows):
    """A model with one segment is trained and asked as if everything were in segment 0; before it was a crash."""
    model = backend.build_model(config(type_vocab_size=n_rows), SPAN, device="cpu", seed=1)
    batch = make_batch(padded=True)
    segments = batch.inputs["token_type_ids"]
    assert segments.max() == 1
    clipped = replace(batch, inputs={**batch.inputs, "token_type_ids": np.minimum(segments, n_rows - 1)})
    zeros = replace(batch, inputs={**batch.inputs, "token_type_ids": np.zeros_like(segments)})
    found, expected, other = (backend.gradients(model, b, precision="fp32") for b in (batch, clipped, zeros))
    for parts, wanted in zip(found, expected, strict=True):
        assert all(np.array_equal(parts[name], values) for name, values in wanted.items())
    # With two rows segments count: else nothing above could fail.
    assert (found[0]["loss"] == other[0]["loss"]) == (n_rows == 1)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parity
def test_logits_equal_the_twins(twins, config, make_batch, kinds, left):
    theirs, ours = twins(config(), kinds)
    batches = [make_batch(length=length, padded=True, left=left) for length in (12, 17)]
    for found, expected in zip(predict(ours, batches), pytorch_modeling.predict(theirs, batches), strict=True):
        for name in ("start", "end", "kind"):
            assert found.values[name].dtype == np.float32
            np.testing.assert_allclose(found.values[name], expected.values[name], atol=ATOL, err_msg=name)
        assert np.array_equal(found.window, expected.window)


def test_bf16_logits_are_float32_and_close_to_those_of_fp32(config, make_batch):
    model = build_model(config(initializer_range=0.1), SPAN, device="cpu", seed=1)
    batches = [make_batch()]
    (exact,), (rounded,) = (list(predict(model, batches, precision=p)) for p in ("fp32", "bf16"))
    assert list(exact.values) == ["start", "end"]
    # bfloat16 has 8 bits; logits here are of size 1.
    difference = np.abs(exact.values["start"] - rounded.values["start"]).max()
    assert 0 < difference < 0.05
    assert len(np.unique(rounded.values["start"])) == rounded.values["start"].size


def test_predict_traces_once_for_all_shapes(config, make_batch):
    model = build_model(config(), SPAN, device="cpu")
    for n, length in ((4, 16), (4, 24), (3, 16), (1, 9)):
        list(predict(model, [make_batch(n=n, length=length)]))
    assert model.compiled(("predict", "fp32", False), None).experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("checkpoint", "hidden_act", "prefix"),
    [
        ("hf_bert/model.safetensors", None, ""),
        ("hf_bert/model.safetensors", "gelu_tanh", "tanh_"),
        ("hf_bert/pytorch_model.bin", None, ""),
        ("hf_bert/pytorch_model_noprefix.bin", None, ""),
        ("hf_bert/pytorch_model_fp16.bin", None, "fp16weights_"),
        ("hf_albert/model.safetensors", None, ""),
        ("hf_albert/pytorch_model.bin", "gelu", "erf_"),
        ("bert_google/bert_model.ckpt", None, ""),
        ("bert_google_adam/model.ckpt-3", None, ""),
        ("albert_google/model.ckpt-best", None, ""),
        ("albert_zh_postln/albert_model.ckpt", None, ""),
        ("albert_zh_preln/albert_model.ckpt", None, ""),
    ],
)
@pytest.mark.golden
def test_golden_checkpoints_at_all_positions(golden_dir, checkpoint, hidden_act, prefix):
    path = golden_dir / "checkpoints" / checkpoint
    expected = np.load(path.parent / "expected.npz")
    golden = read_checkpoint(path, hidden_act)
    model = build_model(golden.config, None, device="cpu", seed=0)
    assert not load_weights(model, golden, fresh_head=False).fresh
    found = hidden_states(model, expected["input_ids"], expected["input_mask"], expected["token_type_ids"])
    found |= {name.replace("layer", "hidden_state"): x for name, x in found.items() if name.startswith("layer_")}
    compared = [name for name in found if prefix + name in expected.files]
    assert {"sequence_output", "pooled_output"} <= set(compared)
    for name in compared:
        np.testing.assert_allclose(found[name], expected[prefix + name], atol=ATOL, err_msg=name)


def test_positions_count_from_the_first_real_token():
    mask = tf.constant([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert position_ids(mask).numpy().tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]


def test_fresh_weights_follow_the_seed_and_are_cut_at_two_std(config):
    set_seed(3)
    first, again, other = (build_model(config(), SPAN, device="cpu", seed=s) for s in (1, 1, 2))
    after = tf.random.uniform([2])
    for a, b in zip(parameters(first).values(), parameters(again).values(), strict=True):
        assert np.array_equal(a.variable, b.variable)
    weights = parameters(first)["layers.1.ffn.up.weight"].variable.numpy()
    assert not np.array_equal(weights, parameters(other)["layers.1.ffn.up.weight"].variable.numpy())
    assert np.abs(weights).max() <= 0.4
    # A normal distribution cut at two standard deviations keeps 0.88 of its width; 1536 draws tell it within 4 %.
    assert weights.std() == pytest.approx(0.88 * 0.2, rel=0.06)
    assert parameters(first)["layers.1.ffn_norm.weight"].variable.numpy().tolist() == [1.0] * 32
    assert not parameters(first)["layers.1.ffn.up.bias"].variable.numpy().any()
    set_seed(3)  # building a model has not moved the global generator
    assert np.array_equal(after, tf.random.uniform([2]))


@pytest.mark.parametrize("bare", [False, True])
def test_names_and_shapes_are_those_of_the_twin(config, kinds, bare):
    for head in [None] if bare else [SPAN, kinds]:
        ours = build_model(config(), head, device="cpu")
        theirs = pytorch_modeling.build_model(config(), head, device="cpu")
        assert parameter_shapes(ours) == pytorch_modeling.parameter_shapes(theirs)


def test_keras_tracks_every_parameter(config, kinds):
    model = build_model(config(), kinds, device="cpu")
    assert {id(v) for v in model.trainable_variables} == {id(p.variable) for p in parameters(model).values()}


def test_both_frameworks_write_the_same_files(twins, config, tmp_path):
    theirs, ours = twins(config(), SPAN)
    for name, save, model in (("a", pytorch_modeling.save_weights, theirs), ("b", save_weights, ours)):
        (tmp_path / name).mkdir()
        save(model, tmp_path / name)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_what_tensorflow_saved_loads_into_the_twin(config, kinds, tmp_path):
    ours = build_model(config(), SPAN, device="cpu", seed=4)
    save_weights(ours, tmp_path)
    theirs = pytorch_modeling.build_model(config(), SPAN, device="cpu", seed=5)
    report = pytorch_modeling.load_weights(theirs, read_checkpoint(tmp_path), fresh_head=False)
    assert not report.fresh and not report.ignored
    for (name, parameter), values in zip(parameters(ours).items(), theirs.parameters(), strict=True):
        assert np.array_equal(parameter.neutral(parameter.variable.value), values.detach().numpy()), name


def test_check_weights_says_what_load_weights_does_and_makes_no_variable(config, kinds, tmp_path):
    save_weights(build_model(config(), SPAN, device="cpu", seed=4), tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    fresh = check_weights(checkpoint, kinds, fresh_head=True)
    model = build_model(config(), kinds, device="cpu")
    assert fresh.lines() == load_weights(model, checkpoint, fresh_head=True).lines()
    with pytest.raises(CheckpointError, match=r"head\.kind"):
        check_weights(checkpoint, kinds, fresh_head=False)
    # 275 GB for the word table: no machine of ours has room for a model like this one.
    with pytest.raises(CheckpointError, match="vocab_size"):
        check_weights(replace(checkpoint, config=config(vocab_size=2**31 - 1)), SPAN, fresh_head=False)


def test_the_processor_is_the_last_device_and_has_facts(config):
    assert devices()[-1] == "cpu"
    facts = device_facts(build_model(config(), None, device="cpu"))
    assert facts["device"].startswith("CPU, ") and facts["peak_bytes"] > 2**20


def test_another_keras_backend_is_refused_in_one_line():
    done = subprocess.run(
        [sys.executable, "-c", "import tf_modeling"],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert "KERAS_BACKEND is 'torch'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("layer", [Linear(8, 16), GroupedLinear(8, 16, 2)], ids=["linear", "grouped"])
def test_bias_gradients_of_long_batches_are_exact_in_half_precision(layer):
    """Summing 4096 rows in bfloat16, which has 8 bits, would be off by tens of percent."""
    x = tf.random.stateless_normal([8, 512, 8], [1, 2])
    weights = tf.random.stateless_uniform([8, 512, 16], [3, 4], 0.5, 1.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(layer(x, run=Pass(tf.bfloat16)), tf.float32) * weights)
    expected = tf.reduce_sum(weights, [0, 1])
    # Each term and the result are rounded to 8 bits: 0.4 % of it.
    np.testing.assert_allclose(tape.gradient(loss, layer.bias.value), expected, rtol=4e-3)


def test_products_are_not_rounded_to_tf32_unless_asked_for():
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        allow_tf32(True)
        assert tf.config.experimental.tensor_float_32_execution_enabled()
    finally:
        allow_tf32(False)
