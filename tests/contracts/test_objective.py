"""Every kind of loss in both frameworks, by hand."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

from preprocess.types import NO_TARGET, HeadSpec, Output
from tests.support.values import KINDS, SPAN

LOG_3 = math.log(3.0)
TAGS = HeadSpec((Output("tag", reads="token", size=2, loss="tag"),))
PIECES = HeadSpec((Output("piece", reads="vocabulary", size=1, loss="piece"),))
CHOICE = HeadSpec((Output("option", reads="sequence", size=1, loss="choice"),))


@pytest.fixture(params=["pytorch", "tensorflow"])
def objectives(request):
    """`call(name, head, values, batch, n_targets)`: a function of the objectives, of numpy arrays, in a framework."""
    if request.param == "pytorch":
        import torch

        to_values, to_ids = (lambda x: torch.tensor(x, dtype=torch.float32)), (lambda x: torch.tensor(x))
        module = importlib.import_module("pytorch_modeling.objective")
    else:
        tf = pytest.importorskip("tensorflow")
        to_values, to_ids = (lambda x: tf.constant(x, tf.float32)), (lambda x: tf.constant(x, tf.int32))
        module = importlib.import_module("tf_modeling.objective")

    def call(function, head, values, batch, n_targets):
        tensors = {name: to_values(x) for name, x in values.items()}
        columns = {name: to_ids(np.asarray(x)) for name, x in batch.items()}
        return getattr(module, function)(head, tensors, columns, n_targets).numpy()

    return call


@pytest.fixture
def loss(objectives):
    """`loss(head, values, batch, n_targets)`."""
    return lambda *arguments: float(objectives("objective", *arguments))


@pytest.fixture
def loss_apart(objectives):
    """The same of windows that hold an answer, and of the others."""
    return lambda *arguments: objectives("apart", *arguments).tolist()


def test_a_position_competes_with_the_real_tokens_alone(loss):
    values = {"start": [[0.0, LOG_3, 100.0]], "end": [[0.0, 0.0, 0.0]]}
    batch = {"attention_mask": [[1, 1, 0]], "start": [1], "end": [0]}
    # start: 3 / (1 + 3), the padding's 100 does not count; end: 1 / 2; the mean of both.
    assert loss(SPAN, values, batch, {"span": 1}) == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)
    assert loss(SPAN, values, batch, {"span": 4}) == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 8)


def test_a_class_is_learned_from_windows_that_have_one_alone(loss):
    even = np.zeros((2, 1))
    values = {"start": even, "end": even, "kind": [[0.0, LOG_3, -99.0], [9.0, -9.0, 0.0]]}
    batch = {"attention_mask": [[1], [1]], "start": [0, 0], "end": [0, 0], "kind": [1, NO_TARGET]}
    assert loss(KINDS, values, batch, {"span": 2, "kind": 1}) == pytest.approx(-math.log(0.75))
    # A projection that is not learned from takes no part, whatever its outputs say.
    assert loss(KINDS, values, batch, {"span": 2}) == 0.0


def test_tags_are_learned_from_the_tokens_that_have_one(loss):
    values = {"tag": [[[0.0, LOG_3], [0.0, 0.0], [50.0, 0.0]]]}
    batch = {"attention_mask": [[1, 1, 0]], "tag": [[1, 0, NO_TARGET]]}
    assert loss(TAGS, values, batch, {"tag": 2}) == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)


def test_pieces_are_learned_from_the_places_that_are_hidden(loss):
    # Two windows with two places each, of which one is filled up.
    values = {"piece": [[[0.0, LOG_3, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]]}
    batch = {"attention_mask": [[1], [1]], "piece": [[1, 0], [2, NO_TARGET]]}
    expected = -(math.log(0.6) + 2 * math.log(1 / 3)) / 3
    assert loss(PIECES, values, batch, {"piece": 3}) == pytest.approx(expected)


def test_a_window_is_chosen_among_those_of_its_example(loss):
    # Examples 7, 3 and 9 have two, three and one windows; the last one has no right window.
    values = {"option": [LOG_3, 0.0, 500.0, 500.0, 500.0, 1.0]}
    batch = {"attention_mask": [[1]] * 6, "group": [7, 7, 3, 3, 3, 9], "option": [1, 0, 0, 1, 0, 0]}
    # 500 is there for the exponential not to overflow; float32 has it to 3e-5.
    assert loss(CHOICE, values, batch, {"option": 2}) == pytest.approx(-(math.log(0.75) - LOG_3) / 2, abs=1e-4)


def test_an_option_is_as_good_as_the_best_of_its_windows(loss):
    # Example 5: the right option reads three windows, the other two; example 6: one window each.
    values = {"option": [-7.0, LOG_3, 1.0, 0.0, -9.0, 0.0, 0.0]}
    batch = {"attention_mask": [[1]] * 7, "group": [5, 5, 5, 5, 5, 6, 6]}
    batch["option"] = [1, NO_TARGET, NO_TARGET, 0, NO_TARGET, 0, 1]
    # Of the first, log 3 against 0; the windows below the best of their option don't count, however many they are.
    assert loss(CHOICE, values, batch, {"option": 2}) == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)


def test_only_the_best_window_of_an_option_is_pulled():
    import torch

    from pytorch_modeling.objective import objective

    values = torch.tensor([0.0, 2.0, 1.0, 1.5], requires_grad=True)
    batch = {"attention_mask": torch.ones(4, 1), "group": torch.tensor([0, 0, 0, 0])}
    batch["option"] = torch.tensor([1, NO_TARGET, 0, NO_TARGET])
    objective(CHOICE, {"option": values}, batch, {"option": 1}).backward()
    wrong = 1 / (1 + math.exp(0.5))  # what the other option gets of the softmax over 2 and 1.5
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([0.0, -wrong, 0.0, wrong])


def test_options_apart_from_others_keep_the_windows_they_are_chosen_among(loss_apart):
    values = {"option": [LOG_3, 0.0, 9.0, 0.0, 0.0]}
    batch = {"attention_mask": [[1]] * 5, "group": [1, 1, 2, 2, 2], "answered": [1, 1, 0, 0, 0]}
    batch["option"] = [1, 0, 0, 1, NO_TARGET]
    answered, others = loss_apart(CHOICE, values, batch, ({"option": 1}, {"option": 1}))
    assert answered == pytest.approx(-math.log(0.75)) and others == pytest.approx(math.log(1 + math.exp(9.0)))
