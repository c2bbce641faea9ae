"""What holds on a CUDA GPU only: its attention kernels, and the training step on it."""

from __future__ import annotations

import copy
import dataclasses
import math
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from preprocess.base.spec import TrainerSpec
from pretrained_configs.config import ModelConfig
from pytorch_modeling import Trainer, build_model, set_seed
from pytorch_modeling.attention import attention
from tests.pytorch_modeling.test_trainer import make_batch
from tests.support.values import SPAN, head_of

# cuBLAS counts as deterministic if this stands when PyTorch first calls it, in whichever test that is.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

GPU = "cuda:0"
LENGTHS = range(32, 513, 32)
HEADS = {"base": 12, "large": 16}
CONFIG = ModelConfig(
    vocab_size=60,
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=256,
    max_position_embeddings=192,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.1,
)
ARGUMENTS = {
    "n_steps": 6,
    "learning_rate": 1e-3,
    "warmup_ratio": 0.0,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "precision": "bf16",
}


def gpu(test):
    test = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")(test)
    return pytest.mark.gpu(test)


def padding_mask(length):
    """Three rows: full, one short by a position, half full."""
    n_real = torch.tensor([length, length - 1, length // 2])
    return (torch.arange(length) < n_real[:, None])[:, None, None, :]


@pytest.mark.parametrize(
    ("length", "p", "allowed"),
    [(64, 0.0, False), (192, 0.0, False), (448, 0.0, False), (96, 0.0, True), (128, 0.0, True), (512, 0.0, True)]
    + [(128, 0.1, False), (128, 0.125, True), (192, 0.125, False), (128, 0, True)],
)
def test_cudnn_may_be_chosen_only_where_it_is_right(length, p, allowed, monkeypatch):
    """Tensors without data, which need no GPU: what is looked at is the state in which attention is called."""
    seen = []

    def spy(query, *_, **__):
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return query

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with FakeTensorMode():
        q = torch.empty(3, 12, length, 64, device=GPU, dtype=torch.bfloat16)
        attention(q, q, q, torch.ones(3, 1, 1, length, device=GPU, dtype=torch.bool), p, training=True)
    assert seen == [allowed]
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def very_negative_scores(n_heads, length):
    """Draw bfloat16 q, k, v [3, heads, length, 64] whose scores are all about -120, below ln of float32's inverse.

    That is what cuDNN's backward overflows on; scores of random vectors, around 0, hide it.
    """
    random = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(3, n_heads, length, 64, generator=random) for _ in range(3))
    q, k = 0.1 * q, 0.1 * k
    q[..., 0], k[..., 0] = 1.0, -120 * math.sqrt(64)
    return [x.to(GPU, torch.bfloat16).requires_grad_() for x in (q, k, v)]


@gpu
@pytest.mark.parametrize("p", [0.0, 0.1, 0.125])
@pytest.mark.parametrize("size", HEADS)
@pytest.mark.parametrize("length", LENGTHS)
def test_gradients_are_finite_at_every_padded_length(length, size, p):
    q, k, v = very_negative_scores(HEADS[size], length)
    torch.manual_seed(0)
    out = attention(q, k, v, padding_mask(length).to(GPU), p, training=True)
    out.backward(torch.randn_like(out))
    assert out.isfinite().all()
    for name, x in (("q", q), ("k", k), ("v", v)):
        assert x.grad.isfinite().all(), name
    assert v.grad.abs().sum() > 0


@gpu
def test_gradients_are_finite_through_the_compiler():
    """Traced as one graph; "aot_eager" runs what was traced without the code generator, which wants a C compiler."""
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    for length in (64, 128, 192):
        q, k, v = very_negative_scores(12, length)
        compiled(q, k, v, padding_mask(length).to(GPU), 0.0, True).sum().backward()
        assert all(x.grad.isfinite().all() for x in (q, k, v)), length


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("length", [32, 64, 192, 384, 512])
def test_attention_without_dropout_equals_float64(length, dtype):
    """An output is a mean of values, weighted by probabilities.

    In half precision these are rounded once, and the mean once: each by half an epsilon of the largest value at most;
    twice that is allowed. float32 has 1e-4: on a CPU it is off by 7e-7, and by 6e-4 if products are rounded to TF32,
    which nobody asked for.
    """
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 12, length, 64, generator=random).to(dtype) for _ in range(3))
    mask = padding_mask(length)
    scores = (q.double() @ k.double().transpose(-1, -2) / 8).masked_fill(~mask, -torch.inf)
    expected = torch.softmax(scores, -1) @ v.double()
    found = attention(*(x.to(GPU) for x in (q, k, v, mask)), 0.1, training=False)
    assert found.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps * v.abs().max().item()
    torch.testing.assert_close(found.cpu().double(), expected, atol=tolerance, rtol=0)


@gpu
@pytest.mark.parametrize("length", [128, 192])
def test_share_of_dropped_probabilities_is_p(length):
    """Equal scores, and values that single out the first 64 keys: an output of 0 is a dropped probability."""
    equal = torch.zeros(8, 12, length, 64, device=GPU, dtype=torch.bfloat16)
    values = torch.eye(length, 64, device=GPU, dtype=torch.bfloat16).expand_as(equal)
    torch.manual_seed(0)
    out = attention(equal, equal, values, torch.ones(8, 1, 1, length, device=GPU, dtype=torch.bool), 0.1, True)
    share = (out == 0).double().mean().item()
    # Kernels that draw 8 bits are off by up to 1/256; 786,432 draws or more by 0.0014 (four standard deviations).
    assert abs(share - 0.1) < 1 / 256 + 0.0014
    assert out.double().mean().item() == pytest.approx(1 / length, rel=0.01)


@gpu
@pytest.mark.parametrize("length", [192, 160])
def test_a_step_in_bf16_is_finite_and_moves_every_parameter(length):
    config = dataclasses.replace(CONFIG, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    set_seed(1)
    model = build_model(config, head_of(("unknown", "yes")), device=GPU, seed=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = Trainer(model, TrainerSpec(**ARGUMENTS))
    batch = make_batch(length=length, padded=True)
    trainer.step([dataclasses.replace(batch, targets={**batch.targets, "kind": np.array([0, 1, -1, -1], np.int32)})])
    metrics = trainer.metrics()
    assert metrics["skipped_steps"] == 0
    assert math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])
    for name, p in model.named_parameters():
        assert p.isfinite().all() and not torch.equal(p, before[name]), name


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_state_dict_continues_bit_exactly_on_a_gpu(precision):
    """Under deterministic algorithms: by default attention's backward adds up in the order in which blocks end."""
    config = dataclasses.replace(CONFIG, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    arguments = {**ARGUMENTS, "precision": precision}
    torch.use_deterministic_algorithms(True)
    try:
        set_seed(1)
        whole = build_model(config, SPAN, device=GPU, seed=1)
        trainer = Trainer(whole, TrainerSpec(**arguments))
        for seed in range(3):
            trainer.step([make_batch(length=192, seed=seed, padded=True)])
        state = copy.deepcopy(trainer.state_dict())
        for seed in range(3, 6):
            trainer.step([make_batch(length=192, seed=seed, padded=True)])
        set_seed(2)
        resumed = build_model(config, SPAN, device=GPU, seed=9)
        other = Trainer(resumed, TrainerSpec(**arguments))
        other.load_state_dict(state)
        for seed in range(3, 6):
            other.step([make_batch(length=192, seed=seed, padded=True)])
    finally:
        torch.use_deterministic_algorithms(False)
    for (name, a), b in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert trainer.metrics() == other.metrics()


@gpu
def test_float32_training_follows_the_cpu():
    """Adam divides a gradient by its own size, plus epsilon: 1e-3 here, so that it does not blow up rounding.

    Five steps move parameters by up to 3e-3. On a CPU, other orders of summation change that by 6e-8, and products
    rounded to TF32 by 2e-5; 5e-6 leaves room for a GPU's own exp and erf, and none for TF32.
    """
    models = {device: build_model(CONFIG, SPAN, device=device, seed=1) for device in (GPU, "cpu")}
    before = torch.nn.utils.parameters_to_vector(models["cpu"].parameters()).detach().clone()
    losses = {}
    for device, model in models.items():
        trainer = Trainer(model, TrainerSpec(**{**ARGUMENTS, "precision": "fp32", "adam_epsilon": 1e-3}))
        for seed in range(5):
            trainer.step([make_batch(length=192, seed=seed, padded=True)])
        losses[device] = trainer.metrics()["loss"]
    found, expected = (torch.nn.utils.parameters_to_vector(m.parameters()).detach().cpu() for m in models.values())
    assert (expected - before).abs().max() > 1e-3
    assert losses[GPU] == pytest.approx(losses["cpu"], rel=1e-5)
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)
