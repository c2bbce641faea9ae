"""Matching a teacher's hidden states computes, in both frameworks, what its formula gives in numpy."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

from experiment.training.matching import HiddenStates
from preprocess.base.methods import STATES
from tests.support.methods import CONFIG, STILL, asking, method_batch, method_trainer, used_gradients, weights
from tests.support.values import SPAN

WEIGHT, WIDTH = 0.7, 5
#: Narrower than the student, of another depth, and with the same pieces.
TEACHER = dataclasses.replace(
    CONFIG, hidden_size=WIDTH, embedding_size=WIDTH, num_hidden_layers=1, num_attention_heads=1
)
PROJECTION = f"head.{STATES}.weight"


@pytest.fixture(params=["pytorch_modeling", "tf_modeling"])
def backend(request):
    return importlib.import_module(request.param)


def test_the_mean_over_the_tokens_of_the_whole_step_is_added_to_the_loss(backend):
    teacher = backend.build_model(TEACHER, SPAN, device="cpu", seed=9)
    states = HiddenStates(backend, teacher, WIDTH)
    plain = [method_batch(0), method_batch(1, n=2)]
    n_tokens = sum(int(batch.inputs["attention_mask"].sum()) for batch in plain)
    batches = [states.added_to(batch, n_tokens) for batch in plain]
    trainer = method_trainer(backend, asking(STILL, distill_hidden=WEIGHT, teacher_width=WIDTH))
    matrix = trainer.state_dict()["model"][PROJECTION].astype(np.float64)
    assert matrix.shape == (WIDTH, CONFIG.hidden_size) and 0 < np.abs(matrix).max() <= 2 * CONFIG.initializer_range
    expected, gradient = 0.0, np.zeros_like(matrix)
    for batch in plain:
        real = batch.inputs["attention_mask"] == 1
        h, t = (backend.last_states(model, batch)[real].astype(np.float64) for model in (trainer.model, teacher))
        apart = h @ matrix.T - t
        expected += WEIGHT * np.square(apart).mean(1).sum() / n_tokens
        gradient += WEIGHT * 2 / WIDTH * apart.T @ h / n_tokens
    without = method_trainer(backend, STILL)
    for each, given in ((without, plain), (trainer, batches)):
        each.step(given)
    assert trainer.metrics()["loss"] - without.metrics()["loss"] == pytest.approx(expected, rel=1e-5)
    found = used_gradients(trainer)
    np.testing.assert_allclose(found[PROJECTION], gradient, rtol=1e-4, atol=1e-6)
    clean = used_gradients(without)
    np.testing.assert_allclose(found["head.span.weight"], clean["head.span.weight"], rtol=1e-5, atol=1e-7)
    layer = "layers.0.ffn.down.weight"
    assert np.abs(found[layer] - clean[layer]).max() > 1e-3


def test_the_projection_is_no_part_of_the_model_that_is_evaluated_and_saved(backend):
    trainer = method_trainer(backend, asking(STILL, distill_hidden=WEIGHT, teacher_width=WIDTH))
    trained = weights(backend, trainer)
    assert PROJECTION in trained
    with trainer.evaluating():
        assert weights(backend, trainer).keys() == trained.keys() - {PROJECTION, f"head.{STATES}.bias"}
        (outputs,) = backend.predict(trainer.model, [method_batch()], precision="fp32")
        assert outputs.values.keys() == {"start", "end"}
    np.testing.assert_array_equal(weights(backend, trainer)[PROJECTION], trained[PROJECTION])
