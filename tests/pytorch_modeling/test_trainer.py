"""The training step against transformers and torch.optim on the same batches, and its own promises."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import pytest
import torch

from preprocess.base.spec import TrainerSpec
from preprocess.types import NO_TARGET
from pretrained_configs.config import ModelConfig
from pytorch_modeling import Trainer, build_model, save_weights, set_seed
from pytorch_modeling.checkpoint import parameter_name
from pytorch_modeling.model import to_tensors
from pytorch_modeling.optim import build_optimizer
from tests.support.values import KINDS, SPAN, span_batch

CONFIG = ModelConfig(
    vocab_size=60,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=32,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.1,
)
ARGUMENTS = {
    "learning_rate": 1e-3,
    "warmup_ratio": 0.1,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "precision": "fp32",
}


def make_batch(n=4, length=16, seed=0, padded=False, kinds=0):
    random = np.random.RandomState(seed)
    lengths = random.randint(9, length + 1, n) if padded else np.full(n, length)
    mask = (np.arange(length)[None] < lengths[:, None]).astype(np.int32)
    start = random.randint(0, 7, n)
    return span_batch(
        window=np.arange(n, dtype=np.int32),
        input_ids=(random.randint(1, 60, (n, length)) * mask).astype(np.int32),
        attention_mask=mask,
        token_type_ids=((np.arange(length)[None] >= 5) * mask).astype(np.int32),
        start=start.astype(np.int32),
        end=(start + random.randint(0, 2, n)).astype(np.int32),
        kind=(random.randint(-1, kinds, n) if kinds else np.full(n, NO_TARGET)).astype(np.int32),
    )


def _theirs(model, tmp_path):
    from transformers import BertForQuestionAnswering

    save_weights(model, tmp_path)
    return BertForQuestionAnswering.from_pretrained(tmp_path, attn_implementation="eager").train()


def _their_loss(theirs, batch):
    tensors = to_tensors(batch, torch.device("cpu"))
    return theirs(
        tensors["input_ids"],
        attention_mask=tensors["attention_mask"],
        token_type_ids=tensors["token_type_ids"],
        start_positions=tensors["start"],
        end_positions=tensors["end"],
    ).loss


@pytest.mark.parity
def test_loss_and_gradients_equal_transformers_on_the_same_batch(tmp_path):
    model = build_model(CONFIG, SPAN, device="cpu", seed=1)
    theirs = _theirs(model, tmp_path)
    batch = make_batch()
    loss = _their_loss(theirs, batch)
    loss.backward()
    trainer = Trainer(model, TrainerSpec(n_steps=10, **ARGUMENTS))
    ours = trainer._loss(batch, {"span": len(batch)})
    ours.backward()
    assert ours.item() == pytest.approx(loss.item(), rel=1e-6)
    gradients = {parameter_name(n): p.grad for n, p in model.named_parameters()}
    named = {n: p.grad for n, p in theirs.named_parameters()}
    qkv = torch.cat([named[f"bert.encoder.layer.1.attention.self.{x}.weight"] for x in ("query", "key", "value")])
    # Two float32 programs with other orders of summation: gradients here are of size 1e-2, and agree to 1e-6.
    for found, expected in (
        (gradients["layers.1.attention.qkv.weight"], qkv),
        (gradients["layers.0.ffn.up.bias"], named["bert.encoder.layer.0.intermediate.dense.bias"]),
        (gradients["embeddings.word.weight"], named["bert.embeddings.word_embeddings.weight"]),
        (gradients["embeddings.norm.weight"], named["bert.embeddings.LayerNorm.weight"]),
        (gradients["head.span.weight"], named["qa_outputs.weight"]),
    ):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert len(gradients) == len(named) - 8  # 2 layers x (3 weights + 3 biases) became 2 x 2


@pytest.mark.parity
def test_twenty_steps_follow_transformers_with_torch_adamw(tmp_path):
    """The epsilon is that of BERT (1e-6).

    Some gradients are zero in exact arithmetic (key biases; whatever adds one number to all span logits), and Adam
    divides their rounding, about 1e-9, by epsilon: with 1e-6 that is 1e-3 of a step of 1e-3. The span head's bias, to
    which every position contributes, has the largest such rounding (1e-7): up to 1e-4 after 20 steps.
    """
    model = build_model(CONFIG, SPAN, device="cpu", seed=1)
    theirs = _theirs(model, tmp_path)
    decayed = [p for n, p in theirs.named_parameters() if "bias" not in n and "LayerNorm" not in n]
    others = [p for n, p in theirs.named_parameters() if "bias" in n or "LayerNorm" in n]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=1e-3, eps=1e-6
    )
    from transformers import get_linear_schedule_with_warmup

    schedule = get_linear_schedule_with_warmup(optimizer, 2, 20)
    trainer = Trainer(model, TrainerSpec(n_steps=20, **{**ARGUMENTS, "adam_epsilon": 1e-6}))
    for step in range(20):
        batch = make_batch(seed=step)
        loss = _their_loss(theirs, batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        trainer.step([batch])
        found = trainer.metrics()
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-5), step
        assert found["grad_norm"] == pytest.approx(norm.item(), rel=1e-4), step
    save_weights(model, tmp_path)
    from safetensors.torch import load_file

    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        atol = 2e-4 if name == "qa_outputs.bias" else 2e-5
        torch.testing.assert_close(tensor, theirs.state_dict()[name], atol=atol, rtol=0, msg=name)


def test_loss_does_not_depend_on_padding():
    model = build_model(CONFIG, SPAN, device="cpu", seed=1)
    batch = make_batch(padded=True)
    padded = {name: np.pad(column, ((0, 0), (0, 9))) for name, column in batch.inputs.items()}
    wider = dataclasses.replace(batch, inputs=padded)
    trainer = Trainer(model, TrainerSpec(n_steps=10, **ARGUMENTS))
    assert trainer._loss(batch, {"span": 4}).item() == pytest.approx(
        trainer._loss(wider, {"span": 4}).item(), rel=1e-6
    )


def _parts(batch, sizes):
    edges = np.cumsum([0, *sizes])
    return [batch.take(np.arange(a, b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]


@pytest.mark.parametrize("spec", [SPAN, KINDS])
def test_accumulation_over_uneven_parts_is_one_big_batch(spec):
    whole, parts = (build_model(CONFIG, spec, device="cpu", seed=1) for _ in range(2))
    trainers = [
        Trainer(model, TrainerSpec(n_steps=5, **{**ARGUMENTS, "warmup_ratio": 0.0, "adam_epsilon": 1e-6}))
        for model in (whole, parts)
    ]
    for step in range(3):
        batch = make_batch(n=7, seed=step, padded=True, kinds=spec.rows.get("kind", 0))
        trainers[0].step([batch])
        trainers[1].step(_parts(batch, (4, 2, 1)))
    assert trainers[0].metrics()["loss"] == pytest.approx(trainers[1].metrics()["loss"], rel=1e-5)
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        # Another order of summation, then Adam: see above, also for the span head's bias.
        torch.testing.assert_close(a, b, atol=2e-4 if name == "head.span.bias" else 2e-5, rtol=0, msg=name)


def test_biases_and_layernorm_are_not_decayed():
    model = build_model(CONFIG, SPAN, device="cpu")
    optimizer = build_optimizer(model, weight_decay=0.01, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8)
    decayed, free = ({id(p) for p in group["params"]} for group in optimizer.param_groups)
    assert optimizer.param_groups[0]["weight_decay"] == 0.01 and optimizer.param_groups[1]["weight_decay"] == 0.0
    for name, parameter in model.named_parameters():
        assert id(parameter) in (free if name.endswith("bias") or "norm" in name else decayed), name
    assert len(decayed) + len(free) == len(list(model.parameters()))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_seed_gives_bit_identical_training_with_dropout(precision):
    config = dataclasses.replace(CONFIG, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    weights = []
    for seed in (7, 7, 8):
        set_seed(seed)
        model = build_model(config, SPAN, device="cpu", seed=1)
        trainer = Trainer(model, TrainerSpec(n_steps=5, **{**ARGUMENTS, "precision": precision}))
        for step in range(5):
            trainer.step([make_batch(seed=step, padded=True)])
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_what_float32_learns(precision):
    losses = {}
    for name in ("fp32", precision):
        model = build_model(CONFIG, SPAN, device="cpu", seed=1)
        trainer = Trainer(model, TrainerSpec(n_steps=60, **{**ARGUMENTS, "precision": name, "learning_rate": 3e-3}))
        for _ in range(60):
            trainer.step([make_batch()])
            losses[name] = trainer.metrics()["loss"]
    assert losses["fp32"] < 0.3
    assert losses[precision] < 0.3


def test_fp16_overflow_skips_the_step_and_lowers_the_scale():
    model = build_model(CONFIG, SPAN, device="cpu", seed=1)
    trainer = Trainer(model, TrainerSpec(n_steps=30, **{**ARGUMENTS, "precision": "fp16", "warmup_ratio": 0.0}))
    trainer.scaler._init_scale = 2.0**30  # gradients overflow float16 at this scale
    before = model.head.span.weight.detach().clone()
    trainer.step([make_batch()])
    assert torch.equal(before, model.head.span.weight)
    metrics = trainer.metrics()
    assert metrics["loss_scale"] < 2.0**30 and metrics["skipped_steps"] == 1
    assert all(math.isfinite(value) for value in metrics.values())  # a Record holds no infinity
    for _ in range(29):
        trainer.step([make_batch()])
    assert not torch.equal(before, model.head.span.weight)
    assert torch.isfinite(model.head.span.weight).all()


@pytest.mark.parametrize(("scale", "skipped"), [(64.0, 0), (2.0**30, 1)])
def test_fixed_loss_scale_stays_whatever_overflows(scale, skipped):
    model = build_model(CONFIG, SPAN, device="cpu", seed=1)
    spec = TrainerSpec(n_steps=30, **{**ARGUMENTS, "precision": "fp16", "warmup_ratio": 0.0, "loss_scale": scale})
    trainer = Trainer(model, spec)
    before = model.head.span.weight.detach().clone()
    for _ in range(2):
        trainer.step([make_batch()])
        metrics = trainer.metrics()
        assert (metrics["loss_scale"], metrics["skipped_steps"]) == (scale, skipped)
    assert torch.equal(before, model.head.span.weight) == bool(skipped)


def test_state_dict_continues_bit_exactly():
    config = dataclasses.replace(CONFIG, hidden_dropout_prob=0.1)
    set_seed(1)
    whole = build_model(config, SPAN, device="cpu", seed=1)
    trainer = Trainer(whole, TrainerSpec(n_steps=6, **ARGUMENTS))
    for step in range(3):
        trainer.step([make_batch(seed=step)])
    import copy

    state = copy.deepcopy(trainer.state_dict())
    for step in range(3, 6):
        trainer.step([make_batch(seed=step)])
    resumed = build_model(config, SPAN, device="cpu", seed=9)
    other = Trainer(resumed, TrainerSpec(n_steps=6, **ARGUMENTS))
    other.load_state_dict(state)
    for step in range(3, 6):
        other.step([make_batch(seed=step)])
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_of_a_cpu_goes_on_where_there_is_one_more_generator(monkeypatch):
    """That of a GPU: a run of --device auto may meet one when it goes on."""
    trainer = Trainer(build_model(CONFIG, SPAN, device="cpu", seed=1), TrainerSpec(n_steps=4, **ARGUMENTS))
    trainer.step([make_batch()])
    state = trainer.state_dict()
    own = trainer._generators()
    monkeypatch.setattr(trainer, "_generators", lambda: [*own, ("cuda", torch.Generator())])
    trainer.load_state_dict(state)
    trainer.step([make_batch(seed=1)])
    assert trainer.n_done == 2 and math.isfinite(trainer.metrics()["loss"])


# What is captured and differentiated is run as it is, or compiled to machine code, which takes half a minute.
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.soak)])
def test_compiled_layers_compute_what_plain_ones_do(backend, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # Compiled here: processes that compile would import PyTorch for a few kernels.
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    compile_module = functools.partialmethod(torch.nn.Module.compile, backend=backend)
    monkeypatch.setattr(torch.nn.Module, "compile", compile_module)
    config = dataclasses.replace(CONFIG, num_hidden_layers=1)
    losses = []
    for compiled in (False, True):
        model = build_model(config, SPAN, device="cpu", seed=1)
        trainer = Trainer(model, TrainerSpec(n_steps=4, torch_compile=compiled, **ARGUMENTS))
        assert (model.encoder.layers[0]._compiled_call_impl is not None) == compiled
        for seed in range(4):
            trainer.step([make_batch(seed=seed, padded=True)])
        losses.append(trainer.metrics())
    for name, value in losses[0].items():
        assert losses[1][name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
