"""Distances in attention, in both frameworks, against the papers' formulas in float64: outputs and gradients.

The formulas are written out pair by pair, with a vector for each: none of the toolkit's is used.
"""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch

from preprocess.types import NO_TARGET
from pretrained_configs.config import ModelConfig
from pretrained_configs.parameters import parameter_shapes
from tests.support.values import SPAN, span_batch

SIZES = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 12,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
#: id -> what the configuration has beside the sizes.
MODELS = {
    "Shaw et al. 2018": {"position_embedding_type": "relative_key"},
    "Huang et al. 2020": {"position_embedding_type": "relative_key_query"},
    "Wei et al. 2019": {"model_type": "nezha", "max_relative_position": 4},
}
#: Of the largest value: float32 rounds to 6e-8 of it, some dozen times in a row.
ROUNDING = 2e-6


@pytest.fixture(params=["pytorch_modeling", "tf_modeling"])
def backend(request):
    if request.param == "tf_modeling":
        pytest.importorskip("tensorflow")
    return importlib.import_module(request.param)


@pytest.fixture(params=MODELS)
def config(request):
    return ModelConfig(**SIZES, **MODELS[request.param])


def _values(config: ModelConfig) -> dict[str, np.ndarray]:
    random = np.random.RandomState(3)
    shapes = parameter_shapes(config, pooled=False, heads=SPAN.rows)
    values = {name: 0.3 * random.randn(*shape) for name, shape in shapes.items()}
    return {name: (x + ("norm.weight" in name)).astype(np.float32) for name, x in values.items()}


def _batch(side: str):
    """Three windows, of 12, 9 and 5 tokens, each with an answer."""
    random, length = np.random.RandomState(1), 12
    real = np.array([length, 9, 5])
    mask = np.zeros((3, length), np.int32)
    ids, types = np.zeros_like(mask), np.zeros_like(mask)
    first = np.zeros(3, np.int32) if side == "right" else length - real
    for row, (start, n) in enumerate(zip(first, real, strict=True)):
        mask[row, start : start + n] = 1
        ids[row, start : start + n] = random.randint(1, 61, n)
        types[row, start + 2 : start + n] = 1
    return span_batch(
        window=np.arange(3),
        input_ids=ids,
        attention_mask=mask,
        token_type_ids=types,
        start=first + 2,
        end=first + 4,
        kind=np.full(3, NO_TARGET),
    )


def _vectors(config: ModelConfig, table: torch.Tensor | None, length: int) -> torch.Tensor:
    """Return a vector for each pair of a query and a key, [S, S, d]."""
    d = config.hidden_size // config.num_attention_heads
    pairs = [[j - i for j in range(length)] for i in range(length)]
    if table is not None:  # index i - j, from the most negative on
        return table[torch.tensor([[config.max_position_embeddings - 1 - apart for apart in row] for row in pairs])]
    most = config.max_relative_position

    def sinusoid(apart: int) -> list[float]:
        place = max(-most, min(most, apart)) + most
        angles = [place / 10000 ** (2 * (n // 2) / d) for n in range(d)]
        return [math.cos(angle) if n % 2 else math.sin(angle) for n, angle in enumerate(angles)]

    return torch.tensor([[sinusoid(apart) for apart in row] for row in pairs], dtype=torch.float64)


def _attention(config: ModelConfig, v: dict, layer: str, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    b, s, hidden = x.shape
    heads = config.num_attention_heads
    qkv = x @ v[f"{layer}.attention.qkv.weight"].T + v[f"{layer}.attention.qkv.bias"]
    query, key, value = (part.reshape(b, s, heads, -1) for part in qkv.split(hidden, -1))
    a = _vectors(config, v.get(f"{layer}.attention.distance.weight"), s)
    scores = torch.einsum("bihd,bjhd->bhij", query, key) + torch.einsum("bihd,ijd->bhij", query, a)
    if config.position_embedding_type == "relative_key_query":
        scores = scores + torch.einsum("bjhd,ijd->bhij", key, a)
    scores = scores / math.sqrt(hidden // heads)
    probs = scores.masked_fill(~mask[:, None, None, :], -torch.inf).softmax(-1)
    mixed = torch.einsum("bhij,bjhd->bihd", probs, value)
    if config.model_type == "nezha":
        mixed = mixed + torch.einsum("bhij,ijd->bihd", probs, a)
    return mixed.reshape(b, s, hidden) @ v[f"{layer}.attention.output.weight"].T + v[f"{layer}.attention.output.bias"]


def _norm(v: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    root = torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-12)
    return centred / root * v[f"{name}.weight"] + v[f"{name}.bias"]


def _expected(config: ModelConfig, values: dict[str, np.ndarray], batch) -> tuple[dict, dict]:
    """Return start and end logits and the loss, and the gradient of every parameter, in float64."""
    v = {name: torch.tensor(x, dtype=torch.float64, requires_grad=True) for name, x in values.items()}
    ids, types = (torch.tensor(batch.inputs[name]).long() for name in ("input_ids", "token_type_ids"))
    mask = torch.tensor(batch.inputs["attention_mask"]).bool()
    x = v["embeddings.word.weight"][ids] + v["embeddings.token_type.weight"][types]
    x = _norm(v, "embeddings.norm", x)
    for layer in (f"layers.{i}" for i in range(config.num_hidden_layers)):
        x = _norm(v, f"{layer}.attention_norm", x + _attention(config, v, layer, x, mask))
        inner = x @ v[f"{layer}.ffn.up.weight"].T + v[f"{layer}.ffn.up.bias"]
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = _norm(v, f"{layer}.ffn_norm", x + inner @ v[f"{layer}.ffn.down.weight"].T + v[f"{layer}.ffn.down.bias"])
    logits = x @ v["head.span.weight"].T + v["head.span.bias"]
    loss = torch.zeros((), dtype=torch.float64)
    for column, name in enumerate(("start", "end")):
        scores = logits[..., column].masked_fill(~mask, -torch.inf)
        target = torch.tensor(batch.targets[name]).long()
        loss = loss - scores.log_softmax(-1)[torch.arange(3), target].mean() / 2
    loss.backward()
    outputs = {"start": logits[..., 0][mask], "end": logits[..., 1][mask], "loss": loss}
    return (
        {name: x.detach().numpy() for name, x in outputs.items()},
        {name: np.zeros(x.shape) if x.grad is None else x.grad.numpy() for name, x in v.items()},
    )


def _model(backend, config: ModelConfig, values: dict[str, np.ndarray]):
    model = backend.build_model(config, SPAN, device="cpu", seed=0)
    backend.set_parameters(model, values)
    return model


@pytest.mark.parametrize("side", ["right", "left"])
def test_outputs_and_gradients_are_those_of_the_papers_formulas(backend, config, side):
    values, batch = _values(config), _batch(side)
    expected, expected_gradients = _expected(config, values, batch)
    outputs, gradients = backend.gradients(_model(backend, config, values), batch, precision="fp32")
    for name, x in expected.items():
        found = outputs[name if name == "loss" else f"{name}_logits"]
        np.testing.assert_allclose(found, x, atol=ROUNDING * max(1, np.abs(x).max()), rtol=0, err_msg=name)
    assert set(gradients) == set(expected_gradients)
    largest = max(np.abs(x).max() for x in expected_gradients.values())
    for name, x in expected_gradients.items():
        np.testing.assert_allclose(gradients[name], x, atol=ROUNDING * largest, rtol=0, err_msg=name)


def test_padding_on_either_side_changes_nothing(backend, config):
    model = _model(backend, config, _values(config))
    found = {}
    for side in ("right", "left"):
        batch = _batch(side)
        (outputs,) = backend.predict(model, [batch])
        found[side] = outputs.values["start"][batch.inputs["attention_mask"] == 1]
    np.testing.assert_allclose(found["left"], found["right"], atol=1e-5)


def test_one_token_is_no_distance_from_itself(backend, config):
    values, one, zero = _values(config), np.ones((3, 1), np.int32), np.zeros(3, np.int32)
    batch = span_batch(
        window=np.arange(3), input_ids=one, attention_mask=one, token_type_ids=one, start=zero, end=zero
    )
    expected, _ = _expected(config, values, batch)
    outputs, _ = backend.gradients(_model(backend, config, values), batch, precision="fp32")
    np.testing.assert_allclose(outputs["start_logits"], expected["start"], atol=1e-5)
