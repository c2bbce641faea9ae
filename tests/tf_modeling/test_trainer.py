"""The training step against its PyTorch twin on the same batches, and its own promises."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
import tensorflow as tf
import torch

import pytorch_modeling
from preprocess.base.spec import TrainerSpec
from pytorch_modeling.checkpoint import parameter_name
from pytorch_modeling.optim import build_optimizer as build_torch_optimizer
from tests.support.values import SPAN
from tf_modeling import Trainer, build_model, set_seed
from tf_modeling.model import parameters
from tf_modeling.optim import build_optimizer


def _weights(model):
    return {name: p.neutral(p.variable.value).copy() for name, p in parameters(model).items()}


def _gradients(trainer, batch):
    loss, _, gradients = trainer._gradients(*trainer._inputs(batch, 0, trainer._head.n_targets([batch]))[0])
    names = parameters(trainer.model)
    return float(loss), {n: p.neutral(g) for (n, p), g in zip(names.items(), gradients, strict=True)}


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("with_kinds", [False, True])
@pytest.mark.parity
def test_loss_and_every_gradient_equal_the_twins(twins, config, arguments, make_batch, kinds, with_kinds, left):
    _compare_gradients(*twins(config(), kinds if with_kinds else SPAN), arguments, make_batch, with_kinds, left)


@pytest.mark.parity
def test_gradients_of_every_architecture_equal_the_twins(twins, config, arguments, make_batch, variant):
    _compare_gradients(*twins(config(**variant), SPAN), arguments, make_batch, False, False)


def _compare_gradients(theirs, ours, arguments, make_batch, with_kinds, left):
    batch = make_batch(padded=True, left=left, kinds=3 if with_kinds else 0, seed=4)
    their_loss = pytorch_modeling.Trainer(theirs, TrainerSpec(n_steps=10, **arguments()))._loss(
        batch, theirs.head_spec.n_targets([batch])
    )
    their_loss.backward()
    loss, found = _gradients(Trainer(ours, TrainerSpec(n_steps=10, **arguments())), batch)
    assert loss == pytest.approx(their_loss.item(), rel=1e-6)
    expected = {parameter_name(n): p.grad.numpy() for n, p in theirs.named_parameters()}
    assert list(found) == list(expected)
    for name, values in expected.items():
        # Relative to the parameter's largest gradient. Key biases (and the span head's) have a gradient of zero in
        # exact arithmetic, and what is left is rounding: it is held against the size of all gradients.
        scale = max(np.abs(values).max(), 0.1)
        np.testing.assert_allclose(found[name] / scale, values / scale, atol=1e-4, err_msg=name)


@pytest.mark.parity
def test_twenty_steps_follow_the_twin(twins, config, arguments, make_batch):
    """The epsilon is that of BERT (1e-6).

    Some gradients are zero in exact arithmetic (key biases; whatever adds one number to all span logits), and Adam
    divides their rounding by epsilon; the span head's bias has the largest such rounding.
    """
    theirs, ours = twins(config(initializer_range=0.1), SPAN)
    options = arguments(adam_epsilon=1e-6)
    trainers = [
        pytorch_modeling.Trainer(theirs, TrainerSpec(n_steps=20, **options)),
        Trainer(ours, TrainerSpec(n_steps=20, **options)),
    ]
    for step in range(20):
        for trainer in trainers:
            trainer.step([make_batch(seed=step, padded=True)])
        expected, found = (trainer.metrics() for trainer in trainers)
        assert found.keys() == expected.keys()
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5), step
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4), step
        assert found["learning_rate"] == pytest.approx(expected["learning_rate"]), step
    weights = _weights(ours)
    for name, parameter in theirs.named_parameters():
        name = parameter_name(name)
        atol = 2e-4 if name == "head.span.bias" else 2e-5
        np.testing.assert_allclose(weights[name], parameter.detach().numpy(), atol=atol, rtol=0, err_msg=name)


@pytest.mark.parametrize("epsilon", [1e-8, 1e-6, 1e-3])
@pytest.mark.parity
def test_adamw_has_the_numbers_of_torch(twins, config, epsilon):
    """20 steps of the same gradients, of sizes 1e-6 to 1: parameters within 1e-6 at every step."""
    theirs, ours = twins(config(), SPAN)
    settings = {"weight_decay": 0.01, "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": epsilon}
    optimizers = [
        build_torch_optimizer(theirs, **settings),
        build_optimizer(ours, **settings),
    ]
    random = np.random.RandomState(0)
    names = parameters(ours)
    apply = tf.function(optimizers[1].apply, autograph=False)
    for step in range(20):
        rate = 1e-3 * (1 - step / 20)
        gradients = []
        for (_, p), parameter in zip(names.items(), theirs.parameters(), strict=True):
            values = (random.randn(*p.shape) * 10.0 ** random.uniform(-6, 0, p.shape)).astype(np.float32)
            parameter.grad = torch.tensor(values)
            gradients.append(tf.constant(values.T if p.transposed else values))
        for group in optimizers[0].param_groups:
            group["lr"] = rate
        optimizers[0].step()
        apply(gradients, tf.constant(rate), tf.constant(1.0))
        weights = _weights(ours)
        for name, parameter in theirs.named_parameters():
            name = parameter_name(name)
            np.testing.assert_allclose(weights[name], parameter.detach().numpy(), atol=1e-6, rtol=0, err_msg=name)


def test_uses_of_one_embedding_row_are_summed_before_clipping_and_update(config, arguments, make_batch):
    """Word 7 everywhere: its gradient is the sum over all positions, and Adam sees it once."""
    model = build_model(config(), SPAN, device="cpu", seed=1)
    trainer = Trainer(model, TrainerSpec(n_steps=10, **arguments(warmup_ratio=0.0)))
    batch = make_batch()
    ids = np.full_like(batch.inputs["input_ids"], 7)
    batch = dataclasses.replace(batch, inputs={**batch.inputs, "input_ids": ids})
    _, gradients = _gradients(trainer, batch)
    words = gradients["embeddings.word.weight"]
    assert words.shape == (60, 32)
    assert np.flatnonzero(np.abs(words).sum(1)).tolist() == [7]
    # Every position's gradient arrives in the position table too, each once: the sums are equal.
    np.testing.assert_allclose(words[7], gradients["embeddings.position.weight"].sum(0), atol=1e-5)
    before = _weights(model)["embeddings.word.weight"]
    trainer.step([batch])
    norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values()))
    assert trainer.metrics()["grad_norm"] == pytest.approx(norm, rel=1e-5)
    clipped = words[7] / max(norm + 1e-6, 1.0)
    expected = before[7] * (1 - 1e-5) - 1e-3 * clipped / (np.abs(clipped) + 1e-8)
    np.testing.assert_allclose(_weights(model)["embeddings.word.weight"][7], expected, atol=1e-7)


def test_gradients_are_clipped_to_the_norm(config, arguments, make_batch):
    """AdamW's first moment after one step is a tenth of the clipped gradient."""
    model = build_model(config(), SPAN, device="cpu", seed=1)
    trainer = Trainer(model, TrainerSpec(n_steps=10, **arguments(max_grad_norm=0.5)))
    trainer.step([make_batch()])
    moments = trainer.state_dict()["optimizer"]["exp_avg"].values()
    norm = 10 * math.sqrt(sum(float((m.astype(np.float64) ** 2).sum()) for m in moments))
    assert trainer.metrics()["grad_norm"] > 0.5
    assert norm == pytest.approx(0.5, rel=1e-4)


def test_loss_does_not_depend_on_padding(config, arguments, make_batch):
    trainer = Trainer(build_model(config(), SPAN, device="cpu", seed=1), TrainerSpec(n_steps=10, **arguments()))
    batch = make_batch(padded=True)
    padded = {name: np.pad(column, ((0, 0), (0, 9))) for name, column in batch.inputs.items()}
    wider = dataclasses.replace(batch, inputs=padded)
    assert _gradients(trainer, batch)[0] == pytest.approx(_gradients(trainer, wider)[0], rel=1e-6)


def _parts(batch, sizes):
    edges = np.cumsum([0, *sizes])
    return [batch.take(np.arange(a, b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]


@pytest.mark.parametrize("with_kinds", [False, True])
def test_accumulation_over_uneven_parts_is_one_big_batch(config, arguments, make_batch, kinds, with_kinds):
    spec = kinds if with_kinds else SPAN
    whole, parts = (build_model(config(initializer_range=0.1), spec, device="cpu", seed=1) for _ in range(2))
    options = arguments(warmup_ratio=0.0, adam_epsilon=1e-6)
    trainers = [Trainer(model, TrainerSpec(n_steps=5, **options)) for model in (whole, parts)]
    for step in range(3):
        batch = make_batch(n=7, seed=step, padded=True, kinds=spec.rows.get("kind", 0))
        trainers[0].step([batch])
        trainers[1].step(_parts(batch, (4, 2, 1)))
    assert trainers[0].metrics()["loss"] == pytest.approx(trainers[1].metrics()["loss"], rel=1e-5)
    expected = _weights(whole)
    for name, values in _weights(parts).items():
        # Another order of summation, then Adam: as over twenty steps, also for the span head's bias.
        atol = 2e-4 if name == "head.span.bias" else 2e-5
        np.testing.assert_allclose(values, expected[name], atol=atol, rtol=0, err_msg=name)


def test_step_traces_once_for_all_shapes_and_once_for_accumulation(config, arguments, make_batch):
    trainer = Trainer(build_model(config(), SPAN, device="cpu"), TrainerSpec(n_steps=9, **arguments()))
    for n, length in ((4, 16), (4, 24), (3, 16), (1, 9)):
        trainer.step([make_batch(n=n, length=length)])
    trainer.step([make_batch(), make_batch(length=20)])
    trainer.step([make_batch(), make_batch(length=20), make_batch(n=1)])
    counts = [f.experimental_get_tracing_count() for f in (trainer._whole, trainer._part, trainer._finish)]
    assert counts == [1, 1, 1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_seed_gives_bit_identical_training_with_dropout(config, arguments, make_batch, precision):
    weights = []
    for seed in (7, 7, 8):
        set_seed(seed)
        dropping = config(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
        model = build_model(dropping, SPAN, device="cpu", seed=1)
        trainer = Trainer(model, TrainerSpec(n_steps=5, **arguments(precision=precision)))
        for step in range(3):
            trainer.step([make_batch(seed=step, padded=True)])
        weights.append(np.concatenate([w.ravel() for w in _weights(model).values()]))
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_half_precision_learns_what_float32_learns(config, arguments, make_batch):
    losses = {}
    for precision in ("fp32", "bf16", "fp16"):
        model = build_model(config(initializer_range=0.1), SPAN, device="cpu", seed=1)
        trainer = Trainer(model, TrainerSpec(n_steps=60, **arguments(precision=precision, learning_rate=3e-3)))
        for _ in range(60):
            trainer.step([make_batch()])
            losses[precision] = trainer.metrics()["loss"]
    assert all(loss < 0.3 for loss in losses.values()), losses


def test_fp16_overflow_skips_the_step_halves_the_scale_and_training_recovers(config, arguments, make_batch):
    model = build_model(config(initializer_range=0.1), SPAN, device="cpu", seed=1)
    trainer = Trainer(model, TrainerSpec(n_steps=30, **arguments(precision="fp16", warmup_ratio=0.0)))
    trainer.scaler.scale.assign(2.0**30)  # gradients overflow float16 at this scale
    before = _weights(model)
    trainer.step([make_batch()])
    assert all(np.array_equal(before[name], values) for name, values in _weights(model).items())
    metrics = trainer.metrics()
    assert metrics["loss_scale"] == 2.0**29 and metrics["skipped_steps"] == 1
    assert all(math.isfinite(value) for value in metrics.values())  # a Record holds no infinity
    assert trainer.state_dict()["optimizer"]["step"] == 0 and trainer.n_done == 1
    for _ in range(29):
        trainer.step([make_batch()])
    after = trainer.metrics()
    assert after["skipped_steps"] < 29 and after["loss"] < metrics["loss"]
    assert all(np.isfinite(values).all() for values in _weights(model).values())


@pytest.mark.parametrize(("scale", "skipped"), [(64.0, 0), (2.0**30, 1)])
def test_fixed_loss_scale_stays_whatever_overflows(config, arguments, make_batch, scale, skipped):
    model = build_model(config(initializer_range=0.1), SPAN, device="cpu", seed=1)
    spec = TrainerSpec(n_steps=30, **arguments(precision="fp16", warmup_ratio=0.0, loss_scale=scale))
    trainer = Trainer(model, spec)
    before = _weights(model)
    for _ in range(2):
        trainer.step([make_batch()])
        metrics = trainer.metrics()
        assert (metrics["loss_scale"], metrics["skipped_steps"]) == (scale, skipped)
    same = all(np.array_equal(before[name], values) for name, values in _weights(model).items())
    assert same == bool(skipped)


def test_loss_scale_follows_torchs_gradscaler(config, arguments):
    trainer = Trainer(
        build_model(config(), SPAN, device="cpu"), TrainerSpec(n_steps=30, **arguments(precision="fp16"))
    )
    theirs = torch.amp.GradScaler("cpu")
    theirs.scale(torch.ones(()))
    trainer.scaler.growth_tracker.assign(1998)
    theirs._growth_tracker.fill_(1998)
    for overflow in (False, False, False, True, False):
        trainer.scaler.update(tf.constant(not overflow))
        found = torch.tensor(float(overflow))
        torch._amp_update_scale_(theirs._scale, theirs._growth_tracker, found, 2.0, 0.5, 2000)
        assert trainer.scaler.state_dict() == {
            "scale": theirs.get_scale(),
            "growth_tracker": theirs._growth_tracker.item(),
        }


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_state_dict_continues_bit_exactly(config, arguments, make_batch, precision):
    dropping = config(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    set_seed(1)
    whole = build_model(dropping, SPAN, device="cpu", seed=1)
    trainer = Trainer(whole, TrainerSpec(n_steps=6, **arguments(precision=precision)))
    for step in range(3):
        trainer.step([make_batch(seed=step)])
    state = pickle.loads(pickle.dumps(copy.deepcopy(trainer.state_dict())))
    assert _is_plain(state)
    for step in range(3, 6):
        trainer.step([make_batch(seed=step)])
    set_seed(2)
    resumed = build_model(dropping, SPAN, device="cpu", seed=9)
    other = Trainer(resumed, TrainerSpec(n_steps=6, **arguments(precision=precision)))
    other.load_state_dict(state)
    for step in range(3, 6):
        other.step([make_batch(seed=step)])
    expected = _weights(whole)
    for name, values in _weights(resumed).items():
        assert np.array_equal(values, expected[name]), name


def _is_plain(value):
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return isinstance(value, np.ndarray) or json.loads(json.dumps(value)) == value


def test_metrics_are_means_and_empty_before_the_first_step(config, arguments, make_batch):
    trainer = Trainer(build_model(config(), SPAN, device="cpu", seed=1), TrainerSpec(n_steps=9, **arguments()))
    assert trainer.metrics() == {}
    trainer.step([make_batch()])  # the first step of the warm-up has rate 0, so the second sees the same weights
    first = trainer.metrics()
    trainer.step([make_batch()])
    trainer.step([make_batch()])
    assert trainer.metrics()["loss"] <= first["loss"]
    assert trainer.metrics() == {}
