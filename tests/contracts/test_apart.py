"""The loss of windows that hold an answer, told from that of the others, in both frameworks."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

from preprocess.base.spec import TrainerSpec
from pretrained_configs.config import ModelConfig
from tests.support.values import KINDS, SPAN, span_batch

CONFIG = ModelConfig(
    vocab_size=20,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=16,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.5,
)
SPEC = TrainerSpec(
    n_steps=9, learning_rate=1e-3, warmup_ratio=0.0, weight_decay=0.01, max_grad_norm=1.0, adam_beta1=0.9,
    adam_beta2=0.999, adam_epsilon=1e-8, precision="fp32",
)  # fmt: skip
ANSWERED = np.array([True, False, True, False, False, True])


@pytest.fixture(params=["pytorch_modeling", "tf_modeling"])
def trainer(request):
    """Return a function that makes a trainer, always with the same weights."""
    backend = importlib.import_module(request.param)

    def make(head=SPAN, **changes):
        backend.set_seed(3)
        model = backend.build_model(CONFIG, head, device="cpu", seed=1)
        return backend.Trainer(model, dataclasses.replace(SPEC, **changes))

    return make


def _batch(answered, seed=0, kinds=False):
    random, n = np.random.RandomState(seed), len(answered)
    ones = np.ones((n, 8), np.int32)
    start = np.where(answered, random.randint(3, 6, n), 0)
    kind = np.where(answered, np.where(random.rand(n) < 0.5, 1, -1), 0) if kinds else None
    batch = span_batch(
        window=np.arange(n), input_ids=random.randint(1, 20, (n, 8)), attention_mask=ones, token_type_ids=ones * 0,
        start=start, end=start + (start > 0), kind=kind,
    )  # fmt: skip
    return dataclasses.replace(batch, answered=np.asarray(answered))


@pytest.fixture
def alone(trainer):
    """Return a function that gives the loss of a batch as a step has it that takes no others; nothing is learned."""

    def make(head=SPAN):
        own = trainer(head, learning_rate=0.0)

        def loss(batch):
            own.step([dataclasses.replace(batch, answered=None)])
            return own.metrics()["loss"]

        return loss

    return make


@pytest.mark.parametrize("kinds", [False, True])
def test_losses_apart_are_those_of_the_windows_alone(trainer, alone, kinds):
    head = KINDS if kinds else SPAN
    whole, ours, loss_of = _batch(ANSWERED, kinds=kinds), trainer(head, learning_rate=0.0), alone(head)
    expected = {"loss": loss_of(whole)}
    for name, of in (("loss_answered", ANSWERED), ("loss_unanswered", ~ANSWERED)):
        expected[name] = loss_of(whole.take(np.flatnonzero(of)))
    for n_parts in (1, 2):
        ours.step([whole.take(part) for part in np.array_split(np.arange(6), n_parts)])
        metrics = ours.metrics()
        assert metrics["answered"] == 0.5
        for name, loss in expected.items():
            assert metrics[name] == pytest.approx(loss, rel=1e-5), (name, n_parts)
        assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-6)
        assert metrics["loss_answered"] != pytest.approx(metrics["loss_unanswered"], rel=0.01)


def test_telling_windows_apart_moves_no_number(trainer):
    batches = [_batch(ANSWERED, seed) for seed in range(4)]
    states = []
    for told in (True, False):
        ours = trainer()
        for batch in batches:
            ours.step([batch if told else dataclasses.replace(batch, answered=None)])
        states.append(ours.state_dict())
    for part in ("model", "losses", "grad_norms"):
        values = [state[part] if part == "model" else {"": state[part]} for state in states]
        for name in values[0]:
            np.testing.assert_array_equal(values[0][name], values[1][name])
    assert "answered" not in trainer().metrics()


def test_of_several_steps_each_window_counts_once(trainer, alone):
    few, many = _batch([True, False, False], 1), _batch([True, True, True], 2)
    ours, loss_of = trainer(learning_rate=0.0), alone()
    ours.step([few])
    ours.step([many])
    metrics = ours.metrics()
    assert metrics["answered"] == pytest.approx(4 / 6)
    expected = (loss_of(few.take(np.array([0]))) + 3 * loss_of(many)) / 4
    assert metrics["loss_answered"] == pytest.approx(expected, rel=1e-5)
    assert metrics["loss_unanswered"] == pytest.approx(loss_of(few.take(np.array([1, 2]))), rel=1e-5)
    # And none twice.
    ours.step([many])
    metrics = ours.metrics()
    assert metrics["answered"] == 1.0 and "loss_unanswered" not in metrics


def test_what_is_pending_goes_on_with_the_state(trainer):
    ours, resumed = trainer(), trainer()
    ours.step([_batch(ANSWERED, 1)])
    resumed.load_state_dict(ours.state_dict())
    for each in (ours, resumed):
        each.step([_batch(~ANSWERED, 2)])
    assert resumed.metrics() == ours.metrics()
