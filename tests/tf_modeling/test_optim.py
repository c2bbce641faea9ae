"""BERT's Adam against its authors' program and against its rule written out; AdamW is tested with the trainer."""

from __future__ import annotations

import contextlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from preprocess.base.schedule import linear_schedule
from tests.support.bert_adam import Rule, apply_rule
from tf_modeling.optim import build_optimizer

SETTINGS = {"weight_decay": 0.01, "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-6, "optim": "bert_adam"}


class _Problem:
    """What an optimizer sees of a model: variables by name."""

    def __init__(self, values: dict[str, np.ndarray]) -> None:
        self.named = {name: keras.Variable(value, dtype="float32") for name, value in values.items()}

    def named_parameters(self):
        return ((f"{name}.weight", variable) for name, variable in self.named.items())

    placed = staticmethod(contextlib.nullcontext)


def _take_step(optimizer, gradients, rate, max_norm):
    """As the trainer does it: clipped by a factor on all gradients."""
    factor = tf.minimum(max_norm / (tf.linalg.global_norm(gradients) + 1e-6), 1.0)
    optimizer.apply(gradients, tf.constant(rate, tf.float32), factor)


@pytest.mark.golden
@pytest.mark.parametrize("index", [0, 1])
def test_bert_adam_is_that_of_google_bert(golden_dir, index):
    """Parameters, and at the end the moments, stay within the fixture's tolerance, 5e-6."""
    content = json.loads((golden_dir / "optimizer" / "adamw_tf.json").read_text())
    run, parts = content["runs"][index], {p["tf_name"]: p for p in content["problem"]}
    problem = _Problem({name: np.array(p["init"], np.float32) for name, p in parts.items()})
    optimizer = build_optimizer(problem, **SETTINGS)
    for step in run["steps"]:
        gradients = [
            parts[n]["scale"] * (v.value - tf.constant(parts[n]["target"])) for n, v in problem.named.items()
        ]
        _take_step(optimizer, gradients, step["lr"], 1.0)
        for name, variable in problem.named.items():
            expected = np.reshape(step["params"][name], variable.shape)
            np.testing.assert_allclose(variable.value, expected, atol=5e-6, rtol=0, err_msg=f"{name}, {step['step']}")
    state = optimizer.state_dict()
    for name, variable in problem.named.items():
        for ours, theirs in (("exp_avg", "adam_m"), ("exp_avg_sq", "adam_v")):
            expected = np.reshape(run["final_slots"][f"{name}/{theirs}"], variable.shape)
            np.testing.assert_allclose(state[ours][f"{name}.weight"], expected, atol=5e-6, rtol=0, err_msg=name)


def test_bert_adam_is_its_rule_written_out():
    """50 steps of gradients of sizes 1e-6 to 1, against float64; for the tolerance see the PyTorch twin."""
    random = np.random.RandomState(0)
    problem = _Problem({"kernel": random.randn(6, 5), "bias": random.randn(5)})
    rules = {n: Rule(v.numpy().astype(np.float64), 0.01 * (v.ndim > 1)) for n, v in problem.named.items()}
    optimizer = build_optimizer(problem, **SETTINGS)
    for step in range(50):
        rate, gradients = 1e-3 * linear_schedule(step, 50, 5), []
        for name, variable in problem.named.items():
            gradient = random.randn(*variable.shape) * 10.0 ** random.uniform(-6, 0, variable.shape)
            gradients.append(tf.constant(gradient, tf.float32))
            apply_rule(rules[name], gradients[-1].numpy().astype(np.float64), rate)
        _take_step(optimizer, gradients, rate, 1e9)
        for name, variable in problem.named.items():
            np.testing.assert_allclose(
                variable.value, rules[name].value, atol=2e-6, rtol=0, err_msg=f"{name}, {step}"
            )
