"""Batches without their padding: on a CPU, where a plain softmax stands for the kernel, and on a GPU with it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from preprocess.base.spec import TrainerSpec
from pretrained_configs.config import ModelConfig
from pytorch_modeling import Trainer, build_model, encoder, packing
from pytorch_modeling.model import HOST_MASK, to_tensors
from pytorch_modeling.trainer import autocast
from tests.pytorch_modeling.test_gpu import ARGUMENTS, CONFIG, GPU, gpu, very_negative_scores
from tests.pytorch_modeling.test_trainer import make_batch
from tests.support.values import head_of

HEAD = head_of(("unknown", "yes"))
SMALL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
FAMILIES = {
    "bert": {},
    "albert": {"embedding_size": 16, "embedding_projection": "output"},
    "electra": {"embedding_size": 16, "embedding_projection": "output"},
    "xlm-roberta": {"pad_token_id": 1, "max_position_embeddings": 194},
    "ernie": {},
}


def softmax_within_rows(q, k, v, starts, *_):
    """Attend from and to [T, heads, d] one row after the other; stands for the kernel."""
    rows = [slice(a, b) for a, b in zip(starts.tolist(), starts.tolist()[1:], strict=False)]
    parts = []
    for row in rows:
        scores = torch.einsum("qhd,khd->hqk", q[row], k[row]) / q.shape[-1] ** 0.5
        parts.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[row]))
    return (torch.cat(parts),)


@pytest.fixture
def packed_on_a_cpu(monkeypatch):
    monkeypatch.setattr(encoder, "has_kernel", lambda device, head_size: True)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", softmax_within_rows, raising=False)


def left_padded(batch):
    inputs = {name: x[:, ::-1].copy() for name, x in batch.inputs.items()}
    return dataclasses.replace(batch, inputs=inputs)


def computed(model, batch, real):
    """Return the values at real tokens, and the gradients of a loss that reads all of them."""
    tensors = to_tensors(batch, model.device)
    if real:
        tensors[HOST_MASK] = torch.from_numpy(batch.inputs["attention_mask"] != 0)
    model.zero_grad()
    values = model(tensors)
    mask = tensors["attention_mask"] != 0
    kept = {name: x[mask] if x.shape[:2] == mask.shape else x for name, x in values.items()}
    sum((x.float().cos()).sum() for x in kept.values()).backward()
    return kept, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_gradients_are_those_of_padded_batches(family, side, packed_on_a_cpu):
    """float32 rounds sums of some hundred terms of size 1 at 1e-5; layers see the same numbers in other shapes."""
    config = dataclasses.replace(CONFIG, model_type=family, **FAMILIES[family])
    model = build_model(config, HEAD, device="cpu", seed=1)
    batch = make_batch(length=96, padded=True)
    batch = left_padded(batch) if side == "left" else batch
    (values, gradients), (packed, packed_gradients) = (computed(model, batch, real) for real in (False, True))
    assert values.keys() == packed.keys() and gradients.keys() == packed_gradients.keys()
    for name, x in values.items():
        torch.testing.assert_close(packed[name], x, atol=1e-5, rtol=1e-5, msg=name)
    for name, x in gradients.items():
        torch.testing.assert_close(packed_gradients[name], x, atol=1e-4, rtol=1e-3, msg=name)


def test_nothing_is_computed_for_padding(packed_on_a_cpu, monkeypatch):
    seen = []
    batch = make_batch(length=96, padded=True)
    model = build_model(CONFIG, HEAD, device="cpu", seed=1)
    model.encoder.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    computed(model, batch, True)
    computed(model, batch, False)
    n = int(batch.inputs["attention_mask"].sum())
    assert n < batch.inputs["attention_mask"].size
    assert seen == [(1, n, CONFIG.hidden_size), (*batch.inputs["attention_mask"].shape, CONFIG.hidden_size)]


@pytest.mark.parametrize("changes", [{"position_embedding_type": "relative_key"}, {"model_type": "nezha"}])
def test_what_has_distances_keeps_its_padding(changes):
    assert not build_model(dataclasses.replace(CONFIG, **changes), HEAD, device="cpu", seed=1).encoder.packs


@gpu
def test_a_gpu_packs_under_autocast_alone():
    device = torch.device(GPU)
    assert not packing.has_kernel(device, 64)
    with autocast(device, "fp16"):
        assert packing.has_kernel(device, 64) and not packing.has_kernel(device, 60)


@gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernel_gives_what_padded_batches_have_in_float32(family, precision):
    """No worse than padded batches in the same precision, but for half of their error, as both round at random."""
    config = dataclasses.replace(CONFIG, model_type=family, **FAMILIES[family])
    model = build_model(config, HEAD, device=GPU, seed=1)
    batch = make_batch(length=96, padded=True)
    expected = computed(model, batch, False)[1]
    with autocast(model.device, precision):
        assert to_tensors(batch, model.device)[HOST_MASK].device.type == "cpu"
        model.encoder.packs = False
        padded = computed(model, batch, False)[1]
        model.encoder.packs = True
        found = computed(model, batch, True)[1]

    def error(gradients):
        return sum((gradients[name] - x).square().sum().item() for name, x in expected.items()) ** 0.5

    size = sum(x.square().sum().item() for x in expected.values()) ** 0.5
    assert error(found) <= 1.5 * error(padded) and error(found) < 0.05 * size


@gpu
@pytest.mark.parametrize("p", [0.0, 0.1])
@pytest.mark.parametrize("length", [40, 192, 448, 512])
def test_the_kernels_gradients_are_finite_and_rows_stay_apart(length, p):
    lengths = [length, length - 1, length // 2]
    real = torch.arange(length) < torch.tensor(lengths)[:, None]
    packed = packing.packing_of(real, torch.device(GPU))
    q, k, v = very_negative_scores(12, length)
    parts = [x.transpose(1, 2).reshape(-1, 12, 64)[packed.places][None].transpose(1, 2) for x in (q, k, v)]
    out = packing.attend(*parts, packed, p)
    out[0, :, : lengths[0]].float().sum().backward()
    for x in (q, k, v):
        assert x.grad.isfinite().all() and not x.grad[1:].any()
    assert v.grad[0].abs().sum() > 0


@gpu
def test_share_of_dropped_probabilities_is_p_within_its_8_bits():
    """Equal scores, and values that single out the first 64 keys: an output of 0 is a dropped probability."""
    length = 128
    packed = packing.packing_of(torch.ones(8, length, dtype=torch.bool), torch.device(GPU))
    equal = torch.zeros(1, 12, 8 * length, 64, device=GPU, dtype=torch.bfloat16)
    values = torch.eye(length, 64, device=GPU, dtype=torch.bfloat16).repeat(8, 1).expand_as(equal)
    torch.manual_seed(0)
    out = packing.attend(equal, equal, values, packed, 0.1)
    # 786,432 draws are off by 0.0014 (four standard deviations).
    assert abs((out == 0).double().mean().item() - 0.1) < 1 / 256 + 0.0014
    assert out.double().mean().item() == pytest.approx(1 / length, rel=0.01)


@gpu
def test_a_packed_step_is_that_of_padded_windows():
    """Two trainers without dropout, in bf16: what a step changes is alike but for rounding."""
    changed = []
    for packs in (False, True):
        model = build_model(dataclasses.replace(CONFIG, **SMALL), HEAD, device=GPU, seed=1)
        model.encoder.packs = packs
        trainer = Trainer(model, TrainerSpec(**{**ARGUMENTS, "adam_epsilon": 1e-3}))
        before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        for seed in range(3):
            batch = make_batch(length=192, seed=seed, padded=True)
            kinds = np.array([0, 1, -1, -1], np.int32)
            trainer.step([dataclasses.replace(batch, targets={**batch.targets, "kind": kinds})])
        assert trainer.metrics()["skipped_steps"] == 0
        changed.append(torch.nn.utils.parameters_to_vector(model.parameters()).detach() - before)
    padded, packed = changed
    assert torch.nn.functional.cosine_similarity(padded, packed, dim=0) > 0.99


@gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_two_runs_of_the_same_steps_are_equal_where_that_is_asked_for(family):
    from pytorch_modeling import be_deterministic, set_seed

    be_deterministic(True)
    try:
        ends = []
        for _ in range(2):
            set_seed(1)
            changes = {**FAMILIES[family], "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
            config: ModelConfig = dataclasses.replace(CONFIG, model_type=family, **changes)
            model = build_model(config, HEAD, device=GPU, seed=1)
            trainer = Trainer(model, TrainerSpec(**ARGUMENTS))
            for seed in range(4):
                trainer.step([make_batch(length=160, seed=seed, padded=True)])
            ends.append(torch.nn.utils.parameters_to_vector(model.parameters()).detach())
    finally:
        be_deterministic(False)
    assert torch.equal(*ends)
