"""Soft targets in both frameworks: the loss by hand, and a trainer's step."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace

import numpy as np
import pytest

from preprocess.types import NO_TARGET, Batch, Soft, soft_name
from tests.support.values import KINDS, SPAN

LOG_3 = math.log(3.0)


@pytest.fixture(params=["pytorch", "tensorflow"])
def loss(request):
    """`loss(head, values, batch, soft, n_targets)`: the objective of numpy arrays, in a framework."""
    if request.param == "pytorch":
        import torch

        to_values, to_ids = (lambda x: torch.tensor(x, dtype=torch.float32)), torch.tensor
    else:
        tf = pytest.importorskip("tensorflow")
        to_values, to_ids = (lambda x: tf.constant(x, tf.float32)), (lambda x: tf.constant(x, tf.int32))
    objective = importlib.import_module(f"{'tf' if request.param == 'tensorflow' else 'pytorch'}_modeling.objective")

    def call(head, values, batch, soft, n_targets):
        columns = {name: to_ids(np.asarray(x)) for name, x in batch.items()}
        columns |= {soft_name(name): to_values(x) for name, x in soft.items()}
        return float(objective.objective(head, {n: to_values(x) for n, x in values.items()}, columns, n_targets))

    return call


def taught(head, weight, temperature):
    return replace(head, soft=Soft(weight, temperature))


def test_a_teacher_who_is_sure_of_the_annotated_answer_gives_its_loss(loss):
    random = np.random.default_rng(0)
    values = {name: random.normal(size=(3, 5)) for name in ("start", "end")} | {"kind": random.normal(size=(3, 3))}
    mask = np.arange(5) < np.array([[5], [3], [4]])
    batch = {"attention_mask": mask.astype(int), "start": [2, 0, 3], "end": [4, 2, 3], "kind": [NO_TARGET, 1, 0]}
    soft = {name: np.eye(5)[batch[name]] for name in ("start", "end")}
    soft["kind"] = np.eye(3)[[0, 1, 0]] * [[0], [1], [1]]
    n_hard = {"span": 3, "kind": 2}
    n_all = {**n_hard, soft_name("span"): 3, soft_name("kind"): 2}
    hard = loss(KINDS, values, batch, {}, n_hard)
    assert hard > 1
    for weight in (0.0, 0.3, 1.0):
        assert loss(taught(KINDS, weight, 1.0), values, batch, soft, n_all) == pytest.approx(hard, rel=1e-6)


def test_both_losses_are_mixed_and_logits_divided_by_the_temperature(loss):
    # Over the temperature 2 the start's logits are 0 and log 3, the end's 0 and 0; padding takes no part.
    values = {"start": [[0.0, 2 * LOG_3, 100.0]], "end": [[0.0, 0.0, 0.0]]}
    batch = {"attention_mask": [[1, 1, 0]], "start": [1], "end": [0]}
    soft = {"start": [[0.5, 0.5, 0.0]], "end": [[0.2, 0.8, 0.0]]}
    hard = -(math.log(0.9) + math.log(0.5)) / 2
    expected = -((math.log(0.25) + math.log(0.75)) / 2 + math.log(0.5)) / 2
    n_targets = {"span": 1, soft_name("span"): 1}
    assert loss(taught(SPAN, 0.25, 2.0), values, batch, soft, n_targets) == pytest.approx(
        0.75 * hard + 0.25 * 4 * expected
    )
    # A window that nothing is known of but what the teacher says.
    unknown = {**batch, "start": [NO_TARGET], "end": [NO_TARGET]}
    assert loss(taught(SPAN, 1.0, 2.0), values, unknown, soft, n_targets) == pytest.approx(4 * expected)


def test_soft_targets_count_by_their_sums_and_are_in_no_part_of_the_losses_apart():
    head = taught(KINDS, 0.5, 1.0)
    targets = {name: np.zeros(3, np.int32) for name in ("start", "end", "kind")}
    soft = {name: np.full((3, 2), 0.5, np.float32) for name in ("start", "end")}
    soft["kind"] = np.array([[0.9, 0, 0], [0, 0.4, 0.3], [0, 0, 0]], np.float32)
    rows = np.arange(3, dtype=np.int32)
    batch = Batch(rows, rows, {}, targets, np.array([True, False, False]), soft)
    assert head.n_targets([batch]) == {"span": 3, "kind": 3, "soft_span": 3, "soft_kind": 2}
    assert head.n_targets([batch.take(rows[2:])])["soft_kind"] == 1  # nothing, over which no loss is divided
    assert head.n_targets_apart([batch]) == ({"span": 1, "kind": 1}, {"span": 2, "kind": 2})
    assert batch.take(rows[1:]).soft["kind"].tolist() == soft["kind"][1:].tolist()
