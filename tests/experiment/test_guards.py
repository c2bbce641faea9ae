"""What goes wrong without an exception: steps that are not finite, divergence, a model that answers nothing."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import math
from operator import attrgetter
from types import SimpleNamespace

import numpy as np
import pytest

from experiment.cli import main
from experiment.training.evaluation import predict_split
from experiment.training.guards import Divergence, all_empty
from preprocess.base.spec import TrainerSpec
from preprocess.types import Batch, FeatureSet
from pretrained_configs.config import ModelConfig
from tasks.core.prediction import DecodeOptions, Prediction
from tasks.problems.kinds import KindProblem
from tasks.problems.span import SpanProblem
from tests.support.values import SPAN

#: The tiny corpus is trained on and is dev, too.
SHARED = "3 of the 3 texts of dev are also trained on"
CONFIG = ModelConfig(
    vocab_size=20,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=16,
)
ARGUMENTS = {
    "n_steps": 9, "learning_rate": 1e-3, "warmup_ratio": 0.0, "weight_decay": 0.01, "max_grad_norm": 1.0,
    "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8,
}  # fmt: skip


def _batch(seed):
    random = np.random.RandomState(seed)
    ones = np.ones((2, 8), np.int32)
    column = np.zeros(2, np.int32)
    ids = random.randint(1, 20, (2, 8)).astype(np.int32)
    inputs = {"input_ids": ids, "attention_mask": ones, "token_type_ids": ones * 0}
    return Batch(column, column, inputs, {"start": column, "end": column + 1})


def _assert_equal(found, expected, path=""):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        for name in expected:
            _assert_equal(found[name], expected[name], f"{path}/{name}")
    else:
        np.testing.assert_array_equal(found, expected, err_msg=path)


@pytest.mark.parametrize("package", ["pytorch_modeling", "tf_modeling"])
@pytest.mark.parametrize(("precision", "optim", "n_parts"), [("fp32", "adamw", 1), ("bf16", "bert_adam", 2)])
def test_step_that_is_not_finite_has_no_effect_and_is_counted(package, precision, optim, n_parts):
    backend = importlib.import_module(package)
    model = backend.build_model(CONFIG, SPAN, device="cpu", seed=1)
    trainer = backend.Trainer(model, TrainerSpec(**ARGUMENTS, precision=precision, optim=optim))
    trainer.step([_batch(0)] * n_parts)
    sound = trainer.state_dict()
    assert trainer.metrics()["skipped_steps"] == 0 and trainer.skipped_in_a_row == 0
    poisoned = copy.deepcopy(sound)
    poisoned["model"]["head.span.bias"][0] = math.nan
    trainer.load_state_dict(poisoned)
    trainer.metrics()
    trainer.step([_batch(1)] * n_parts)
    trainer.step([_batch(2)] * n_parts)
    found = trainer.state_dict()
    for part in ("model", "optimizer"):
        _assert_equal(found[part], poisoned[part])
    assert found["n_done"] == 3
    metrics = trainer.metrics()
    assert metrics["skipped_steps"] == 2 and trainer.skipped_in_a_row == 2
    assert "loss" not in metrics and all(math.isfinite(value) for value in metrics.values())
    trainer.load_state_dict({**found, "model": sound["model"]})
    trainer.step([_batch(3)] * n_parts)
    metrics = trainer.metrics()
    assert metrics["skipped_steps"] == 2 and trainer.skipped_in_a_row == 0  # the two came back with the state
    after = trainer.state_dict()["model"]
    assert all(np.isfinite(values).all() for values in after.values())
    assert not np.array_equal(after["head.span.weight"], sound["model"]["head.span.weight"])


# --- in a run ---


def _train(flags, corpus, tmp_path, *more):
    return main([*flags(corpus, tmp_path / "run", "--seeds", "1", "--num_train_epochs", "4"), *more])


def _record(tmp_path):
    return json.loads((tmp_path / "run" / "seed_1" / "record.json").read_text())


@pytest.fixture
def poison(monkeypatch):
    """Make the steps with these numbers not finite."""
    import torch

    from pytorch_modeling import Trainer

    step = Trainer.step

    def at(*numbers):
        def poisoned(self, batches):
            bias = self.model.head.span.bias
            sound = bias.detach().clone()
            with torch.no_grad():
                if self.n_done + 1 in numbers:
                    bias.fill_(math.nan)
            step(self, batches)
            with torch.no_grad():
                if self.n_done in numbers:
                    bias.copy_(sound)

        monkeypatch.setattr(Trainer, "step", poisoned)

    return at


def test_single_steps_that_are_not_finite_are_skipped_and_counted(poison, corpus, flags, tmp_path, capsys):
    poison(2, 7)
    assert _train(flags, corpus, tmp_path, "--logging_steps", "1", "--eval_epochs", "1") == 0
    record = _record(tmp_path)
    assert (record["status"], record["n_skipped"], record["warnings"]) == ("finished", 2, [SHARED])
    assert all(math.isfinite(evaluation["loss"]) for evaluation in record["evaluations"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "skipped_steps" in line]
    assert [line.split()[3] for line in lines] == ["2/12", "7/12"]


def test_too_many_in_a_row_stop_the_training_and_name_their_windows(poison, corpus, flags, tmp_path, capsys):
    poison(3, *range(5, 13))
    more = ("--logging_steps", "1", "--eval_epochs", "4", "--max_nonfinite_steps", "3")
    assert _train(flags, corpus, tmp_path, *more) == 2
    message = capsys.readouterr().err
    assert "loss or gradients of steps 5 to 7 are not finite" in message and "lower --learning_rate" in message
    record = _record(tmp_path)
    assert (record["status"], record["n_skipped"], record["scores"]) == ("failed", 4, {})
    path = tmp_path / "run" / "seed_1" / "nonfinite_steps.json"
    assert str(path) in message
    steps = json.loads(path.read_text())
    assert [step["step"] for step in steps] == [5, 6, 7]
    names = [f"T_{i}_Q_{j}" for i in range(3) for j in range(2)]
    # The corpus has one window per question, in the order of the file; steps 5 and 6 are of one epoch.
    assert all(step["ids"] == [names[window] for window in step["windows"]] for step in steps)
    assert len({*steps[0]["windows"], *steps[1]["windows"]}) == 4


def test_evaluation_without_a_step_since_the_last_stops_the_training(poison, corpus, flags, tmp_path, capsys):
    poison(*range(4, 13))
    assert _train(flags, corpus, tmp_path, "--eval_epochs", "1") == 2
    assert "loss or gradients of steps 4 to 6 are not finite" in capsys.readouterr().err


def test_divergence_is_warned_of_once(corpus, flags, tmp_path, monkeypatch, capsys):
    from pytorch_modeling import Trainer

    metrics = Trainer.metrics

    def diverging(self):
        return {**metrics(self), "loss": 0.5 if self.n_done < 4 else 4.0}

    monkeypatch.setattr(Trainer, "metrics", diverging)
    assert _train(flags, corpus, tmp_path, "--logging_steps", "1") == 0
    expected = "training has diverged: loss 4 at step 6 is that of chance"
    assert _record(tmp_path)["warnings"] == [SHARED, expected]
    assert capsys.readouterr().out.count(f"seed 1 warning: {expected}") == 1


def test_model_that_answers_nothing_is_reported(corpus, flags, tmp_path, monkeypatch, capsys):
    def empty(*arguments):
        found = predict_split(*arguments)
        return dataclasses.replace(found, texts=dict.fromkeys(found.texts, ""))

    monkeypatch.setattr("experiment.training.seed.predict_split", empty)
    assert _train(flags, corpus, tmp_path) == 0
    expected = "the model answers no question of dev: all 6 answers are empty"
    assert _record(tmp_path)["warnings"] == [SHARED, expected]
    assert f"seed 1 warning: {expected}" in capsys.readouterr().out


# --- by hand ---


def test_divergence_is_three_times_chance_after_less_than_half_of_it():
    divergence = Divergence(chance=5.0)
    losses = [5.0, 5.0, 5.0, 5.0, 2.4, 4.1, 4.1, 3.9, 4.1, 4.1, 4.1, 4.1, 4.1]
    assert [divergence.notices(loss) for loss in losses].index(True) == 10
    assert not any(divergence.notices(4.1) for _ in range(9))
    never_low = Divergence(chance=5.0)
    assert not any(never_low.notices(loss) for loss in [5.0, 2.6, 5.0, 5.0, 5.0, 5.0])


def test_chance_is_the_loss_of_equally_likely_positions_and_kinds():
    columns = {name: np.zeros(0, np.int32) for name in FeatureSet.columns()}
    features = FeatureSet(**{**columns, "row_splits": np.array([0, 4, 20])}, targets={}, meta={})
    assert SpanProblem().chance(features) == pytest.approx(math.log(8))  # of 4 and 16 positions
    assert KindProblem({"yes": "YES", "no": "NO"}).chance(features) == pytest.approx(math.log(16))


def test_an_answer_that_is_more_than_a_text_is_empty_with_its_text():
    """What a metric reads of several spans is ["x", "y"], and of none [""]."""
    nothing = Prediction("a", "", 0, 0, "span", 0.0, (), [""])
    problem = SimpleNamespace(decode=lambda *_: {"a": nothing})
    part = SimpleNamespace(task=SimpleNamespace(problem=problem, answer=attrgetter("value")), scorers={})
    data = SimpleNamespace(examples=[], features=None)
    assert all_empty(predict_split(part, "test", data, [], DecodeOptions(), None, "_test").texts)


def test_nothing_to_answer_is_not_empty():
    assert all_empty({"a": "", "b": ""})
    assert not all_empty({"a": "", "b": "x"})
    assert not all_empty({})
