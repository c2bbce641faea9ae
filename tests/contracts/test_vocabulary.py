"""The head over the word table in both frameworks, and against its formula in float64, at the hidden places alone."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

from preprocess.base.spec import TrainerSpec
from preprocess.types import NO_TARGET, PLACES, Batch
from pretrained_configs.config import ModelConfig
from pretrained_configs.parameters import parameter_shapes
from tasks.problems.masked_lm import PIECE, MaskedProblem

HEAD = MaskedProblem.head
SIZES = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
#: id -> what the configuration has beside the sizes.
MODELS = {
    "bert": {},
    "roberta": {"model_type": "roberta", "pad_token_id": 1},
    # The word table is narrower than the states: the transform leads there, or (albert_zh) the table's projection.
    "albert": {"model_type": "albert", "embedding_size": 10, "embedding_projection": "output"},
    "albert_zh": {"model_type": "albert", "embedding_size": 10, "embedding_projection": "word"},
    "electra": {"model_type": "electra", "embedding_size": 10, "embedding_projection": "output"},
}
SPEC = TrainerSpec(
    n_steps=10, learning_rate=1e-3, warmup_ratio=0.0, weight_decay=0.01, max_grad_norm=1.0,
    adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-6, precision="fp32",
)  # fmt: skip
#: Of the largest value: float32 rounds to 6e-8 of it, some dozen times in a row.
ROUNDING = 1e-5


@pytest.fixture(params=MODELS)
def config(request):
    return ModelConfig(**SIZES, **MODELS[request.param])


def _values(config):
    random = np.random.RandomState(3)
    shapes = parameter_shapes(config, pooled=False, tied=HEAD.tied)
    values = {name: 0.3 * random.randn(*shape) for name, shape in shapes.items()}
    return {name: (x + ("norm.weight" in name)).astype(np.float32) for name, x in values.items()}


def _batch():
    """Two windows, of 12 and 9 tokens, with three and two hidden places."""
    random, length = np.random.RandomState(1), 12
    mask = (np.arange(length) < np.array([[12], [9]])).astype(np.int32)
    ids = np.where(mask, random.randint(2, 61, (2, length)), 1).astype(np.int32)
    places = np.array([[2, 3, 7], [4, 8, 0]], np.int32)
    targets = np.array([[5, 17, 60], [2, 33, NO_TARGET]], np.int32)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask), PLACES: places}
    index = np.arange(2, dtype=np.int32)
    return Batch(index, index, inputs, {PIECE: targets})


def _model(package, config):
    if package == "tf_modeling":
        pytest.importorskip("tensorflow")
    backend = importlib.import_module(package)
    model = backend.build_model(config, HEAD, device="cpu", seed=0)
    backend.set_parameters(model, _values(config))
    return backend, model


def _formula(config, values, states):
    """Return the logarithms of all pieces' probabilities at the hidden places, float64 [2, 3, V]."""
    v = {name: x.astype(np.float64) for name, x in values.items()}
    batch = _batch()
    x = states.astype(np.float64)[np.arange(2)[:, None], batch.inputs[PLACES]]
    x = x @ v["head.piece.dense.weight"].T + v["head.piece.dense.bias"]
    x = x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config.layer_norm_eps)
    x = x * v["head.piece.norm.weight"] + v["head.piece.norm.bias"]
    table = v["embeddings.word.weight"]
    if "embeddings.word_projection.weight" in v:
        table = table @ v["embeddings.word_projection.weight"].T
    scores = x @ table.T + v["head.piece.bias"]
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


@pytest.mark.parametrize("package", ["pytorch_modeling", "tf_modeling"])
def test_pieces_are_scored_by_the_word_table(package, config):
    backend, model = _model(package, config)
    batch, values = _batch(), _values(config)
    assert backend.parameter_shapes(model) == {name: x.shape for name, x in values.items()}
    assert list(backend.parameter_shapes(model)) == list(values)
    inputs = [batch.inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    expected = _formula(config, values, backend.hidden_states(model, *inputs)["sequence_output"])
    said, grads = backend.gradients(model, batch, precision="fp32")
    # At three places of each window and not at all twelve: these would be larger than the model.
    assert said[f"{PIECE}_logits"].shape == (2, 3, 61)
    targets = batch.targets[PIECE]
    right = np.take_along_axis(expected, np.maximum(targets, 0)[..., None], -1)[..., 0]
    counted = targets != NO_TARGET
    assert said["loss"] == pytest.approx(-right[counted].mean(), rel=1e-5)
    (outputs,) = backend.predict(model, iter([batch]), precision="fp32")
    log_probability, n_likelier = np.moveaxis(outputs.values[PIECE], -1, 0)
    np.testing.assert_allclose(log_probability, np.where(counted, right, 0), rtol=1e-4, atol=1e-5)
    ranks = (expected > right[..., None]).sum(-1)
    assert n_likelier.tolist() == np.where(counted, ranks, -1).tolist()
    # What is tied learns at both ends: a piece that no window holds is pushed away all the same.
    absent = np.setdiff1d(np.arange(61), batch.inputs["input_ids"])
    assert np.abs(grads["embeddings.word.weight"][absent]).min() > 0


def test_both_frameworks_learn_the_same(config):
    pytest.importorskip("tensorflow")
    found = {}
    for package in ("pytorch_modeling", "tf_modeling"):
        backend, model = _model(package, config)
        _, found[package] = backend.gradients(model, _batch(), precision="fp32")
    ours, theirs = found.values()
    assert ours.keys() == theirs.keys()
    largest = max(np.abs(x).max() for x in ours.values())
    for name, gradient in ours.items():
        assert np.abs(gradient - theirs[name]).max() < ROUNDING * largest, name


def test_both_frameworks_take_the_same_steps():
    losses = []
    for package in ("pytorch_modeling", "tf_modeling"):
        backend, model = _model(package, ModelConfig(**SIZES, **MODELS["albert"]))
        trainer = backend.Trainer(model, SPEC)
        for _ in range(3):
            trainer.step([_batch()])
            losses.append(trainer.metrics()["loss"])
    assert losses[:3] == pytest.approx(losses[3:], rel=1e-4) and losses[2] < losses[0]
