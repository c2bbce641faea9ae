"""Methods that change gradients and losses compute, in both frameworks, what their formulas give in numpy."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

from preprocess.types import NO_TARGET, Batch, HeadSpec, Output
from tests.support.methods import (
    CONFIG,
    LORA,
    STILL,
    TABLE,
    asking,
    assert_close,
    assert_equal,
    method_batch,
    method_trainer,
    used_gradients,
    weights,
)


@pytest.fixture(params=["pytorch_modeling", "tf_modeling"])
def backend(request):
    return importlib.import_module(request.param)


# --- adversarial training ---


def _perturbed(backend, batches, *, epsilon, alpha, n_steps):
    """Compute a step's clean gradients, these and the adversarial ones, and the loss, by the formula, in numpy."""
    plain, total, losses = {}, {}, []
    model = method_trainer(backend).model
    table = backend.parameter_values(model)[TABLE]
    for batch in batches:
        backend.set_parameters(model, {TABLE: table})
        outputs, clean = backend.gradients(model, batch, precision="fp32")
        losses.append(float(outputs["loss"]))
        latest, r = clean, np.zeros_like(table)
        for _ in range(n_steps):
            g = latest[TABLE]
            r = r + alpha * g / np.sqrt((g.astype(np.float64) ** 2).sum())
            r *= min(1.0, epsilon / np.sqrt((r.astype(np.float64) ** 2).sum()))
            backend.set_parameters(model, {TABLE: (table + r).astype(np.float32)})
            _, latest = backend.gradients(model, batch, precision="fp32")
        assert np.linalg.norm(r) == pytest.approx(min(epsilon, n_steps * alpha), rel=0.2)
        for name in clean:
            plain[name] = plain.get(name, 0.0) + clean[name] / len(batches)
            total[name] = total.get(name, 0.0) + (clean[name] + latest[name]) / len(batches)
    return plain, total, np.mean(losses)


@pytest.mark.parametrize(
    ("methods", "formula"),
    [
        ({"fgm_epsilon": 0.7}, {"epsilon": 0.7, "alpha": 0.7, "n_steps": 1}),
        (
            {"pgd_epsilon": 0.5, "pgd_alpha": 0.3, "pgd_steps": 3},
            {"epsilon": 0.5, "alpha": 0.3, "n_steps": 3},
        ),
    ],
    ids=["fgm", "pgd"],
)
def test_adversarial_gradients_are_added_to_the_clean_ones(backend, methods, formula):
    trainer = method_trainer(backend, asking(STILL, **methods))
    before, batches = weights(backend, trainer), [method_batch(0), method_batch(1)]
    trainer.step(batches)
    plain, expected, loss = _perturbed(backend, batches, **formula)
    assert_close(used_gradients(trainer), expected)
    assert np.abs(2 * plain[TABLE] - expected[TABLE]).max() > 1e-3  # the perturbation matters
    assert trainer.metrics()["loss"] == pytest.approx(loss, rel=1e-6)
    assert_equal(weights(backend, trainer), before)  # moved back, to the last bit


def test_length_of_an_adversarial_step_does_not_depend_on_the_loss_scale(backend):
    trainer = method_trainer(backend, asking(STILL, fgm_epsilon=0.7, precision="fp16", loss_scale=1024.0))
    trainer.step([method_batch(0)])
    _, expected, _ = _perturbed(backend, [method_batch(0)], epsilon=0.7, alpha=0.7, n_steps=1)
    assert_close(used_gradients(trainer), expected, atol=2e-2)  # float16 has 11 bits


# --- losses ---


def _log_softmax(values):
    values = values - values.max()
    return values - np.log(np.exp(values).sum())


def _kl(p, q):
    return float((np.exp(p) * (p - q)).sum())


#: An output of each kind, what they are learned from, and in `_passes` two passes' values. The last three windows
#: are one example's, whose second option has two of them; in the second window no token can be an answer.
HEAD = HeadSpec(
    (
        Output("at", reads="token", size=1, loss="position", among="answers", weight=0.5),
        Output("sort", reads="sequence", size=3, loss="class"),
        Output("is", reads="sequence_given", size=1, loss="binary", given="at"),
        Output("mark", reads="token", size=2, loss="tag"),
        Output("best", reads="sequence", size=1, loss="choice"),
    )
)
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]], np.int32)
ANSWERS = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]], np.int32)
TARGETS = {
    "at": np.array([2, NO_TARGET, 0, NO_TARGET], np.int32),
    "sort": np.array([NO_TARGET, 1, 2, 0], np.int32),
    "is": np.array([1, NO_TARGET, 0, NO_TARGET], np.int32),
    "mark": np.array([[0, 1, 0, -1], [1, -1, -1, -1], [1, 0, 1, 1], [-1, -1, -1, 0]], np.int32),
    "best": np.array([0, 1, 0, NO_TARGET], np.int32),
}
BATCH = {"attention_mask": MASK, "answer_mask": ANSWERS, "group": np.array([0, 1, 1, 1], np.int32), **TARGETS}


def _passes():
    random = np.random.RandomState(5)
    shapes = {"at": (4, 4), "sort": (4, 3), "is": (4,), "mark": (4, 4, 2), "best": (4,)}
    return [{name: random.randn(*shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(2)]


def _tensors(backend):
    """Return the framework's function from arrays to tensors, and its module of added losses."""
    losses = importlib.import_module(f"{backend.__name__}.methods.losses")
    if backend.__name__ == "tf_modeling":
        import tensorflow as tf

        return tf.constant, losses
    import torch

    return lambda array: torch.from_numpy(array.astype(np.int64) if array.dtype == np.int32 else array), losses


def test_divergence_is_the_symmetric_one_over_what_has_a_target(backend):
    tensor, losses = _tensors(backend)
    first, second = _passes()
    both = (first, second)
    marked = list(zip(*np.nonzero(TARGETS["mark"] != NO_TARGET), strict=True))
    terms = {
        "at": [[values["at"][i][ANSWERS[i] == 1] for values in both] for i in (0, 2)],
        "sort": [[values["sort"][i] for values in both] for i in (1, 2, 3)],
        # A sigmoid is the softmax beside a score of 0.
        "is": [[np.array([values["is"][i], 0.0]) for values in both] for i in (0, 2)],
        "mark": [[values["mark"][at] for values in both] for at in marked],
        # The first example has no right option.
        "best": [[np.array([values["best"][1], values["best"][2:].max()]) for values in both]],
    }
    expected = 0.0
    for name, pairs in terms.items():
        logs = [(_log_softmax(a), _log_softmax(b)) for a, b in pairs]
        weight = 0.5 if name == "at" else 1.0
        expected += weight * sum((_kl(p, q) + _kl(q, p)) / 2 for p, q in logs) / len(logs)
    arguments = [{name: tensor(array) for name, array in part.items()} for part in (first, second, BATCH)]
    n_targets = {name: len(pairs) for name, pairs in terms.items()}
    assert float(losses.divergence(HEAD, *arguments, n_targets)) == pytest.approx(expected, rel=1e-5)


def test_smoothing_gives_all_tokens_that_compete_a_share_of_the_target(backend):
    tensor, losses = _tensors(backend)
    values, _ = _passes()
    share, smoothed, plain = 0.2, 0.0, 0.0
    for i, right in ((0, 2), (2, 0)):
        logs = _log_softmax(values["at"][i][ANSWERS[i] == 1])
        target = np.full(len(logs), share / len(logs))
        at = ANSWERS[i][:right].sum()
        target[at] += 1 - share
        smoothed -= 0.5 * (target * logs).sum() / 2
        plain -= 0.5 * logs[at] / 2
    batch = {name: tensor(array) for name, array in BATCH.items()}
    added = losses.smoothing(HEAD, {k: tensor(v) for k, v in values.items()}, batch, {"at": 2, "sort": 2})
    assert plain + share * float(added) == pytest.approx(smoothed, rel=1e-5)


def test_label_smoothing_is_what_a_step_minimises(backend):
    batch = method_batch()
    outputs, _ = backend.gradients(method_trainer(backend).model, batch, precision="fp32")
    bounds = np.cumsum(batch.inputs["attention_mask"].sum(1))[:-1]  # logits are those of the real tokens
    expected = 0.0
    for name in ("start", "end"):
        for values, right in zip(np.split(outputs[f"{name}_logits"], bounds), batch.targets[name], strict=True):
            logs = _log_softmax(values)
            expected -= (0.9 * logs[right] + 0.1 * logs.mean()) / len(batch) / 2
    trainer = method_trainer(backend, asking(label_smoothing=0.1))
    trainer.step([batch])
    assert trainer.metrics()["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def passes_of(backend, monkeypatch):
    """What R-Drop's passes gave, as numpy, for each batch."""
    losses = importlib.import_module(f"{backend.__name__}.methods.losses")
    seen, added_loss = [], losses.RDrop.added_loss

    def spying(self, trainer, passes, batch, n_targets):
        arrays = [{k: v.detach() if hasattr(v, "detach") else v for k, v in values.items()} for values in passes]
        seen.append([{k: v.numpy() for k, v in values.items()} for values in arrays])
        return added_loss(self, trainer, passes, batch, n_targets)

    monkeypatch.setattr(losses.RDrop, "added_loss", spying)
    if backend.__name__ == "pytorch_modeling":
        yield seen
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield seen
    tf.config.run_functions_eagerly(False)


def test_rdrop_minimises_both_passes_and_their_divergence(backend, passes_of):
    batch = method_batch()
    trainer = method_trainer(backend, asking(rdrop_alpha=2.0), dataclasses.replace(CONFIG, hidden_dropout_prob=0.3))
    trainer.step([batch])
    loss = trainer.metrics()["loss"]
    ((first, second),) = passes_of
    assert np.abs(first["start"] - second["start"]).max() > 0.01  # each pass had its own dropout
    expected = 0.0
    for name in ("start", "end"):
        for i, right in enumerate(batch.targets[name]):
            real = batch.inputs["attention_mask"][i] == 1
            p, q = _log_softmax(first[name][i][real]), _log_softmax(second[name][i][real])
            cross_entropy = -(p[right] + q[right]) / 2
            expected += (cross_entropy + 2.0 * (_kl(p, q) + _kl(q, p)) / 2) / len(batch) / 2
    assert loss == pytest.approx(expected, rel=1e-5)


# --- all of them ---


EACH_PASS = {"fgm_epsilon": 0.3, "rdrop_alpha": 0.5, "label_smoothing": 0.05, "ema_decay": 0.5}


@pytest.mark.parametrize(
    ("precision", "methods"),
    [
        ("fp16", {**EACH_PASS, "layerwise_lr_decay": 0.9, "reinit_layers": 1, "gradient_checkpointing": 1}),
        ("bf16", {**LORA, "rdrop_alpha": 0.5}),
    ],
    ids=["fp16", "bf16"],
)
def test_methods_learn_in_every_precision(backend, precision, methods):
    config = dataclasses.replace(CONFIG, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    trainer = method_trainer(backend, asking(precision=precision, learning_rate=1e-2, **methods), config)
    losses = []
    for _ in range(25):
        trainer.step([method_batch()])
        losses.append(trainer.metrics())
    assert all(values["skipped_steps"] == 0 for values in losses[3:])
    assert np.mean([values["loss"] for values in losses[-5:]]) < 0.8 * losses[0]["loss"]


def test_batch_without_a_target_of_a_projection_learns_the_others(backend):
    batch = method_batch()
    targets = {"at": batch.targets["start"], "mark": np.full((3, 8), NO_TARGET, np.int32)}
    head = HeadSpec((Output("at", reads="token", size=1, loss="position"), HEAD.outputs[3]))
    trainer = method_trainer(backend, asking(rdrop_alpha=1.0, label_smoothing=0.1), head=head)
    trainer.step([Batch(batch.window, batch.group, batch.inputs, targets)])
    assert np.isfinite(trainer.metrics()["loss"])
