"""Methods that are added as hooks, in a file of their own, without a change to any other file."""

from __future__ import annotations

import importlib.util
import json
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

from experiment.options.flags import TrainOptions
from experiment.training.protocol import train

#: Three methods: a loop's (a rate that is held for some steps, weights averaged for evaluation), and a step's
#: (embeddings perturbed along the gradient, as FGM does), the latter with its part in each framework.
METHODS = '''
import contextlib

import numpy as np

from experiment.training.hooks import Hook

SEEN = []


class AveragedWeights(Hook):
    """Evaluates and saves an average of the weights of all steps."""

    def attach(self, run):
        self.average = run.setup.backend.parameter_values(run.model)

    def after_step(self, run):
        now = run.setup.backend.parameter_values(run.model)
        self.average = {name: 0.9 * mean + 0.1 * now[name] for name, mean in self.average.items()}

    @contextlib.contextmanager
    def evaluating(self, run):
        trained = run.setup.backend.parameter_values(run.model)
        run.setup.backend.set_parameters(run.model, self.average)
        yield
        run.setup.backend.set_parameters(run.model, trained)

    def after_evaluation(self, run, evaluation):
        SEEN.append((run.progress.step, evaluation.values["f1"]))

    def state_dict(self):
        return {"average": self.average}

    def load_state_dict(self, state):
        self.average = dict(state["average"])


class Adversarial(Hook):
    """Adds the gradients at word embeddings that are moved along theirs."""

    def attach(self, run):
        if run.setup.options.framework == "pytorch":
            import torch

            from pytorch_modeling.hooks import TrainerHook

            class Perturbing(TrainerHook):
                n_updates = 0

                def after_backward(self, trainer, gradients, again):
                    table = trainer.model.encoder.embeddings.word.weight
                    gradient = gradients["embeddings.word.weight"]
                    moved = 0.1 * gradient / (gradient.norm() + 1e-12)
                    with torch.no_grad():
                        table.add_(moved)
                    perturbed = again()
                    with torch.no_grad():
                        table.sub_(moved)
                    return {name: g + perturbed[name] for name, g in gradients.items()}

                def after_update(self, trainer):
                    self.n_updates += 1
        else:
            import tensorflow as tf

            from tf_modeling.distribute import assign
            from tf_modeling.hooks import TrainerHook

            class Perturbing(TrainerHook):
                def attach(self, trainer):
                    self.counter = tf.Variable(0, trainable=False)

                def after_backward(self, trainer, gradients, again):
                    table = trainer.model.encoder.embeddings.word.weight.value
                    before = tf.identity(table)
                    gradient = gradients["embeddings.word.weight"]
                    assign(table, before + 0.1 * gradient / (tf.norm(gradient) + 1e-12))
                    perturbed = again()
                    assign(table, before)
                    return {name: g + perturbed[name] for name, g in gradients.items()}

                def after_update(self, trainer):
                    assign(self.counter, self.counter + 1)

                @property
                def n_updates(self):
                    return int(self.counter.numpy())

        self.part = Perturbing()
        run.trainer.attach(self.part)

    def end(self, run):
        SEEN.append(self.part.n_updates)


class Stretched(Hook):
    """Doubles the rate of every step after the second."""

    def attach(self, run):
        self.n_seen = 0

    def before_step(self, run, draw):
        self.n_seen += 1
        if self.n_seen == 3:
            run.trainer.learning_rate *= 2

    def state_dict(self):
        return {"n_seen": self.n_seen, "rates": np.array([1.0, 2.0])}

    def load_state_dict(self, state):
        self.n_seen = state["n_seen"]
        assert state["rates"].tolist() == [1.0, 2.0]
'''


@pytest.fixture
def methods(tmp_path):
    """The module of hooks, from a file that nothing else knows of."""
    path = tmp_path / "my_methods.py"
    path.write_text(METHODS, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("my_methods", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def options(corpus, tmp_path):
    def of(name, framework, **more):
        return TrainOptions(
            **{
                "task": "cmrc2018", "config_name": str(corpus.model), "framework": framework, "seeds": (1,),
                "train_file": corpus.data, "validation_file": corpus.data, "output_dir": tmp_path / name,
                "max_seq_length": 64, "per_device_train_batch_size": 6, "num_train_epochs": 60.0, "eval_epochs": 20.0,
                "learning_rate": 1e-2, "feature_cache_dir": None, **more,
            }
        )  # fmt: skip

    return of


def _weights(run):
    return load_file(run / "seed_1" / "checkpoint-best" / "model.safetensors")


def _evaluations(run):
    return json.loads((run / "seed_1" / "record.json").read_text())["evaluations"]


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_hooks_of_a_file_of_their_own_train_in_both_frameworks(framework, methods, options, tmp_path):
    (record,) = train(options("plain", framework))
    untrained = train(options("untrained", framework, learning_rate=0.0))[0].scores["dev"]["f1"]
    (with_hooks,) = train(options("hooked", framework), [methods.AveragedWeights, methods.Adversarial])
    # Of some hundred spans per question one is right; to know the kind of span is worth as much as this.
    assert with_hooks.scores["dev"]["f1"] > untrained + 25.0
    # Each point was called where it says: after the evaluations of steps 20, 40 and 60, and after every update.
    assert [step for step, _ in methods.SEEN[:-1]] == [20, 40, 60] and methods.SEEN[-1] == 60
    assert [e["dev"]["f1"] for e in with_hooks.evaluations] == [f1 for _, f1 in methods.SEEN[:-1]]
    # And they took part: other losses than without, and other weights.
    assert all(a["loss"] != b["loss"] for a, b in zip(record.evaluations, with_hooks.evaluations, strict=True))
    ours, plain = _weights(tmp_path / "hooked"), _weights(tmp_path / "plain")
    assert any(not np.array_equal(ours[name], plain[name]) for name in plain)


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_hooks_go_on_where_they_were(framework, methods, options, tmp_path, monkeypatch):
    backend = importlib.import_module({"pytorch": "pytorch_modeling", "tensorflow": "tf_modeling"}[framework])
    few = {"num_train_epochs": 6.0, "eval_epochs": 2.0}
    all_hooks = [methods.AveragedWeights, methods.Adversarial, methods.Stretched, methods.Stretched]
    train(options("whole", framework, **few), all_hooks)
    step, n_steps = backend.Trainer.step, []

    def dying(self, batches):
        step(self, batches)
        n_steps.append(1)
        if len(n_steps) == 5:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(backend.Trainer, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            train(options("run", framework, **few), all_hooks)
    with pytest.raises(ValueError, match="begun with the hooks AveragedWeights, Adversarial, Stretched"):
        train(options("run", framework, **few), [methods.AveragedWeights])
    train(options("run", framework, **few), all_hooks)
    assert _evaluations(tmp_path / "run") == _evaluations(tmp_path / "whole")
    run, whole = _weights(tmp_path / "run"), _weights(tmp_path / "whole")
    assert all(np.array_equal(run[name], whole[name]) for name in whole)


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_a_hook_that_does_nothing_moves_no_number(framework, methods, options, tmp_path):
    package = {"pytorch": "pytorch_modeling", "tensorflow": "tf_modeling"}[framework]
    hooks = importlib.import_module(f"{package}.hooks")

    class Idle(methods.Hook):
        def attach(self, run):
            run.trainer.attach(hooks.TrainerHook())

    few = {"num_train_epochs": 6.0, "eval_epochs": 2.0, "gradient_accumulation_steps": 2}
    few["per_device_train_batch_size"] = 2
    train(options("plain", framework, **few))
    train(options("idle", framework, **few), [Idle])
    assert _evaluations(tmp_path / "idle") == _evaluations(tmp_path / "plain")
    idle, plain = _weights(tmp_path / "idle"), _weights(tmp_path / "plain")
    assert all(np.array_equal(idle[name], plain[name]) for name in plain)


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_gradients_that_a_hook_returns_are_those_that_are_used(framework, methods, options, tmp_path):
    """Twice the loss's gradient under a clipping that is never reached is Adam's same step, up to its epsilon."""
    package = {"pytorch": "pytorch_modeling", "tensorflow": "tf_modeling"}[framework]
    hooks = importlib.import_module(f"{package}.hooks")
    factors = {"once": 1.0, "half": 0.5, "none": 0.0}

    def scaled(factor):
        class Scaled(methods.Hook):
            def attach(self, run):
                class Part(hooks.TrainerHook):
                    def after_backward(self, trainer, gradients, again):
                        return {name: factor * g for name, g in gradients.items()}

                run.trainer.attach(Part())

        return Scaled

    few = {"num_train_epochs": 2.0, "eval_epochs": 2.0, "max_grad_norm": 1e9, "gradient_accumulation_steps": 3}
    few |= {"per_device_train_batch_size": 2, "weight_decay": 0.0, "adam_epsilon": 1e-30}
    weights = {}
    for name, factor in factors.items():
        train(options(name, framework, **few), [scaled(factor)])
        weights[name] = _weights(tmp_path / name)
    train(options("untouched", framework, **{**few, "learning_rate": 0.0}))
    untouched = _weights(tmp_path / "untouched")
    for name in untouched:
        np.testing.assert_array_equal(weights["none"][name], untouched[name])
        np.testing.assert_allclose(weights["half"][name], weights["once"][name], atol=1e-5, err_msg=name)


def test_hooks_that_have_not_begun_are_not_ended(methods, options):
    class Failing(methods.Hook):
        def begin(self, run):
            raise RuntimeError("can't begin")

    # The profile begins after it, and would have nothing to end.
    with pytest.raises(RuntimeError, match="can't begin"):
        train(options("run", "pytorch", profile=True, num_train_epochs=1.0), [Failing])
