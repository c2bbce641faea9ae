"""Each training method computes, in both frameworks, what an independent computation of its formula gives."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

from preprocess.base.spec import TrainerSpec
from preprocess.types import NO_TARGET, Batch, HeadSpec, Output
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from tests.support.values import SPAN, span_batch

CONFIG = ModelConfig(
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=16,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.2,
)
#: Nothing decays and nothing is clipped: what a gradient is can be read from Adam's first moment.
SPEC = TrainerSpec(
    n_steps=100, learning_rate=1e-3, warmup_ratio=0.0, weight_decay=0.0, max_grad_norm=1e9, adam_beta1=0.9,
    adam_beta2=0.999, adam_epsilon=1e-12, precision="fp32",
)  # fmt: skip
STILL = dataclasses.replace(SPEC, learning_rate=0.0)
TABLE = "embeddings.word.weight"


@pytest.fixture(params=["pytorch_modeling", "tf_modeling"])
def backend(request):
    return importlib.import_module(request.param)


def _batch(seed=0, n=3):
    random = np.random.RandomState(seed)
    mask = (np.arange(8)[None] < random.randint(5, 9, n)[:, None]).astype(np.int32)
    start = random.randint(0, 4, n)
    ids = random.randint(1, 30, (n, 8)) * mask
    return span_batch(
        window=np.arange(n), input_ids=ids, attention_mask=mask, token_type_ids=mask * 0, start=start, end=start + 1
    )


def _trainer(backend, spec=SPEC, config=CONFIG, head=SPAN):
    backend.set_seed(1)
    model = backend.build_model(config, head, device="cpu", seed=3)
    return backend.Trainer(model, spec)


def _with(spec=SPEC, **methods):
    return dataclasses.replace(spec, **methods)


def _moments(trainer):
    """Return Adam's first moments, by the parameters that have some."""
    optimizer = trainer.state_dict()["optimizer"]
    return optimizer["exp_avg"] if "exp_avg" in optimizer else {k: v["exp_avg"] for k, v in optimizer.items()}


def _used_gradients(trainer):
    """Return the gradients of the first step."""
    return {name: moment / (1 - SPEC.adam_beta1) for name, moment in _moments(trainer).items()}


def _weights(backend, trainer):
    return backend.parameter_values(trainer.model)


def _assert_close(found, expected, atol=2e-6):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=atol * max(1.0, np.abs(values).max()), err_msg=name)


def _assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


# --- adversarial training ---


def _perturbed(backend, batches, *, epsilon, alpha, n_steps):
    """Compute a step's clean gradients, these and the adversarial ones, and the loss, by the formula, in numpy."""
    plain, total, losses = {}, {}, []
    for batch in batches:
        model = _trainer(backend).model
        table = backend.parameter_values(model)[TABLE]
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
    trainer = _trainer(backend, _with(STILL, **methods))
    before, batches = _weights(backend, trainer), [_batch(0), _batch(1)]
    trainer.step(batches)
    plain, expected, loss = _perturbed(backend, batches, **formula)
    _assert_close(_used_gradients(trainer), expected)
    assert np.abs(2 * plain[TABLE] - expected[TABLE]).max() > 1e-3  # the perturbation matters
    assert trainer.metrics()["loss"] == pytest.approx(loss, rel=1e-6)
    _assert_equal(_weights(backend, trainer), before)  # moved back, to the last bit


def test_length_of_an_adversarial_step_does_not_depend_on_the_loss_scale(backend):
    trainer = _trainer(backend, _with(STILL, fgm_epsilon=0.7, precision="fp16", loss_scale=1024.0))
    trainer.step([_batch(0)])
    _, expected, _ = _perturbed(backend, [_batch(0)], epsilon=0.7, alpha=0.7, n_steps=1)
    _assert_close(_used_gradients(trainer), expected, atol=2e-2)  # float16 has 11 bits


# --- losses ---


def _log_softmax(values):
    values = values - values.max()
    return values - np.log(np.exp(values).sum())


def _kl(p, q):
    return float((np.exp(p) * (p - q)).sum())


#: An output of each kind, two passes' values for it, and a batch of three windows; the last two are one example's.
HEAD = HeadSpec(
    (
        Output("at", reads="token", size=1, loss="position"),
        Output("sort", reads="sequence", size=3, loss="class"),
        Output("mark", reads="token", size=2, loss="tag"),
        Output("best", reads="sequence", size=1, loss="choice"),
    )
)
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], np.int32)
TARGETS = {
    "at": np.array([2, NO_TARGET, 0], np.int32),
    "sort": np.array([NO_TARGET, 1, 2], np.int32),
    "mark": np.where(MASK == 1, np.array([[0, 1, 0, 0], [1, NO_TARGET, 0, 0], [1, 0, 1, 1]]), NO_TARGET).astype(
        np.int32
    ),
    "best": np.array([0, 1, 0], np.int32),
}
GROUP = np.array([0, 1, 1], np.int32)


def _passes():
    random = np.random.RandomState(5)
    shapes = {"at": (3, 4), "sort": (3, 3), "mark": (3, 4, 2), "best": (3,)}
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
    terms = {"at": [], "sort": [], "mark": [], "best": []}
    for i in (0, 2):
        real = MASK[i] == 1
        terms["at"].append((first["at"][i][real], second["at"][i][real]))
    terms["sort"] = [(first["sort"][i], second["sort"][i]) for i in (1, 2)]
    marked = zip(*np.nonzero(TARGETS["mark"] != NO_TARGET), strict=True)
    terms["mark"] = [(first["mark"][i, j], second["mark"][i, j]) for i, j in marked]
    terms["best"] = [(first["best"][1:], second["best"][1:])]  # the first example has no right window
    expected = 0.0
    for pairs in terms.values():
        logs = [(_log_softmax(a), _log_softmax(b)) for a, b in pairs]
        expected += sum((_kl(p, q) + _kl(q, p)) / 2 for p, q in logs) / len(logs)
    batch = {"attention_mask": MASK, "group": GROUP, **TARGETS}
    arguments = [{name: tensor(array) for name, array in part.items()} for part in (first, second, batch)]
    n_targets = {name: len(pairs) for name, pairs in terms.items()}
    assert float(losses.divergence(HEAD, *arguments, n_targets)) == pytest.approx(expected, rel=1e-5)


def test_smoothing_gives_all_real_tokens_a_share_of_the_target(backend):
    tensor, losses = _tensors(backend)
    values, _ = _passes()
    share, smoothed, plain = 0.2, 0.0, 0.0
    for i, right in ((0, 2), (2, 0)):
        logs = _log_softmax(values["at"][i][MASK[i] == 1])
        target = np.full(len(logs), share / len(logs))
        target[right] += 1 - share
        smoothed -= (target * logs).sum() / 2
        plain -= logs[right] / 2
    batch = {name: tensor(array) for name, array in {"attention_mask": MASK, "group": GROUP, **TARGETS}.items()}
    added = losses.smoothing(HEAD, {k: tensor(v) for k, v in values.items()}, batch, {"at": 2, "sort": 2})
    assert plain + share * float(added) == pytest.approx(smoothed, rel=1e-5)


def test_label_smoothing_is_what_a_step_minimises(backend):
    batch = _batch()
    outputs, _ = backend.gradients(_trainer(backend).model, batch, precision="fp32")
    bounds = np.cumsum(batch.inputs["attention_mask"].sum(1))[:-1]  # logits are those of the real tokens
    expected = 0.0
    for name in ("start", "end"):
        for values, right in zip(np.split(outputs[f"{name}_logits"], bounds), batch.targets[name], strict=True):
            logs = _log_softmax(values)
            expected -= (0.9 * logs[right] + 0.1 * logs.mean()) / len(batch) / 2
    trainer = _trainer(backend, _with(label_smoothing=0.1))
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
    batch = _batch()
    trainer = _trainer(backend, _with(rdrop_alpha=2.0), dataclasses.replace(CONFIG, hidden_dropout_prob=0.3))
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


# --- averages ---


def test_average_follows_its_recursion_and_changes_places_with_the_weights(backend):
    trainer = _trainer(backend, _with(ema_decay=0.75))
    average = {name: values.astype(np.float64) for name, values in _weights(backend, trainer).items()}
    for seed in range(3):
        trainer.step([_batch(seed)])
        now = _weights(backend, trainer)
        average = {name: 0.75 * mean + 0.25 * now[name] for name, mean in average.items()}
    with trainer.evaluating():
        _assert_close(_weights(backend, trainer), average, atol=1e-7)
    _assert_equal(_weights(backend, trainer), now)
    assert np.abs(average[TABLE] - now[TABLE]).max() > 1e-4
    other = _trainer(backend, _with(ema_decay=0.75))
    other.load_state_dict(trainer.state_dict())
    for one in (trainer, other):
        one.step([_batch(3)])
    with trainer.evaluating(), other.evaluating():
        _assert_equal(_weights(backend, other), _weights(backend, trainer))


# --- layers ---


def _level(name):
    return 3 if name.startswith("head.") else int(name.split(".")[1]) + 1 if name.startswith("layers.") else 0


def test_each_layer_moves_and_decays_by_its_own_rate(backend):
    """Adam's first step moves each element by the rate, whatever its gradient is."""
    trainer = _trainer(backend, _with(layerwise_lr_decay=0.5, learning_rate=1e-2, weight_decay=0.1))
    before = _weights(backend, trainer)
    trainer.step([_batch()])
    after, used = _weights(backend, trainer), _used_gradients(trainer)
    assert trainer.metrics()["learning_rate"] == pytest.approx(1e-2)
    for name, values in before.items():
        rate = {0: 0.25e-2, 1: 0.5e-2, 2: 1e-2, 3: 1e-2}[_level(name)]
        decayed = values * (1 - rate * 0.1) if values.ndim > 1 else values
        learned = np.abs(used[name]) > 1e-6
        expected = decayed - rate * np.sign(used[name])
        np.testing.assert_allclose(after[name][learned], expected[learned], atol=1e-6, err_msg=name)
    unused = sorted(set(range(30)) - set(np.unique(_batch().inputs["input_ids"])))
    np.testing.assert_allclose(after[TABLE][unused], before[TABLE][unused] * (1 - 0.25e-2 * 0.1), rtol=1e-6)


def test_frozen_layers_stay_and_have_no_optimizer_state(backend):
    trainer = _trainer(backend, _with(freeze_layers=1))
    before = _weights(backend, trainer)
    _, gradients = backend.gradients(_trainer(backend).model, _batch(), precision="fp32")
    trainer.step([_batch()])
    learned = {name for name in before if _level(name) > 1}
    _assert_close(_used_gradients(trainer), {name: gradients[name] for name in learned})
    after = _weights(backend, trainer)
    for name, values in after.items():
        assert np.array_equal(values, before[name]) == (name not in learned), name
    other = _trainer(backend, _with(freeze_layers=1))
    backend.set_parameters(other.model, {name: values * 0 for name, values in before.items()})
    other.load_state_dict(trainer.state_dict())
    _assert_equal(_weights(backend, other), after)  # what is frozen comes back with the state


def test_last_layers_and_pooler_are_drawn_anew(backend):
    head = HeadSpec((Output("sort", reads="sequence", size=3, loss="class"),))
    before = _weights(backend, _trainer(backend, head=head))
    found = _weights(backend, _trainer(backend, _with(reinit_layers=1, seed=7), head=head))
    again = _weights(backend, _trainer(backend, _with(reinit_layers=1, seed=7), head=head))
    other = _weights(backend, _trainer(backend, _with(reinit_layers=1, seed=8), head=head))
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

LORA = {"lora_rank": 2, "lora_alpha": 6.0, "lora_targets": ("query", "value", "down")}


def test_lora_learns_changes_of_low_rank_and_the_head_alone(backend, tmp_path):
    trainer = _trainer(backend, _with(**LORA))
    published = _weights(backend, _trainer(backend))
    with trainer.evaluating():
        _assert_equal(_weights(backend, trainer), published)  # B is 0
    batch = _batch()
    for seed in range(3):
        trainer.step([_batch(seed)])
    learned = _moments(trainer)
    changes = [f"layers.{i}.{place}" for i in range(2) for place in ("attention.qkv", "ffn.down")]
    assert learned.keys() == {
        *(f"{place}.lora_{way}" for place in changes for way in ("down", "up")), "head.span.weight", "head.span.bias",
    }  # fmt: skip
    state = trainer.state_dict()["model"]
    outside = backend.activations(trainer.model, batch, precision="fp32")
    with trainer.evaluating():
        merged = _weights(backend, trainer)
        inside = backend.activations(trainer.model, batch, precision="fp32")
        backend.save_weights(trainer.model, tmp_path)
    _assert_close(inside, outside, atol=1e-5)
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
    _assert_equal(backend.parameter_values(ordinary), merged)


def test_layers_that_share_parameters_are_adapted_once(backend):
    albert = dataclasses.replace(CONFIG, model_type="albert", embedding_size=8, embedding_projection="output")
    trainer = _trainer(backend, _with(layerwise_lr_decay=0.5, **LORA), albert)
    assert [name for name in trainer.state_dict()["model"] if name.endswith("qkv.lora_up")] == [
        "groups.0.0.attention.qkv.lora_up"
    ]
    with trainer.evaluating():
        assert _weights(backend, trainer).keys() == _weights(backend, _trainer(backend, config=albert)).keys()


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
    trainer = _trainer(backend, _with(precision=precision, learning_rate=1e-2, **methods), config)
    losses = []
    for _ in range(25):
        trainer.step([_batch()])
        losses.append(trainer.metrics())
    assert all(values["skipped_steps"] == 0 for values in losses[3:])
    assert np.mean([values["loss"] for values in losses[-5:]]) < 0.8 * losses[0]["loss"]


def test_batch_without_a_target_of_a_projection_learns_the_others(backend):
    batch = _batch()
    targets = {"at": batch.targets["start"], "mark": np.full((3, 8), NO_TARGET, np.int32)}
    head = HeadSpec((HEAD.outputs[0], HEAD.outputs[2]))
    trainer = _trainer(backend, _with(rdrop_alpha=1.0, label_smoothing=0.1), head=head)
    trainer.step([Batch(batch.window, batch.group, batch.inputs, targets)])
    assert np.isfinite(trainer.metrics()["loss"])
