"""Memory, threads and open files do not grow from seed to seed, nor from evaluation to evaluation."""

from __future__ import annotations

import gc
import importlib
import json
import os
import weakref
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from experiment.cli import main

#: Each takes more than a quarter of a minute in a process that holds much already.
pytestmark = pytest.mark.soak

FRAMEWORKS = [("pytorch", "pytorch_modeling"), ("tensorflow", "tf_modeling")]


def _weights(package):
    """Measure the tensors that are still held: bytes in PyTorch; in TensorFlow, how many handles and graphs."""
    if package == "pytorch_modeling":
        import torch

        storages = {}
        for thing in gc.get_objects():
            # Not those that stand for tensors where a model is exported: they hold nothing.
            if type(thing) in (torch.Tensor, torch.nn.Parameter) and thing.device.type == "cpu":
                storage = thing.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
        return sum(storages.values())
    import tensorflow as tf
    from tensorflow.python.framework.func_graph import FuncGraph

    # A variable lives as long as any handle of it: Python's object may be gone, and a graph hold the memory.
    return sum(isinstance(thing, tf.Tensor | FuncGraph) for thing in gc.get_objects())


def _resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _state(package):
    gc.collect()
    return {
        "weights": _weights(package),
        "threads": len(os.listdir("/proc/self/task")),
        "files": len(os.listdir("/proc/self/fd")),
    }


@pytest.fixture
def wide(corpus):
    """The corpus with a model of some megabytes, which a measure of the process can tell from noise."""
    path = corpus.model / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "hidden_size": 512, "intermediate_size": 2048}), encoding="utf-8")
    return corpus


@pytest.mark.parametrize(("framework", "package"), FRAMEWORKS)
def test_a_seed_leaves_nothing_for_the_next_one_to_carry(framework, package, wide, flags, tmp_path, monkeypatch):
    backend = importlib.import_module(package)
    build, models, states, resident = backend.build_model, [], [], []

    def observed(*arguments, **named):
        states.append(_state(package))
        resident.append(_resident_bytes())
        model = build(*arguments, **named)
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(backend, "build_model", observed)
    seeds = ("--seeds", *map(str, range(1, 7)), "--num_train_epochs", "1", "--gradient_checkpointing", "1")
    assert main(flags(wide, tmp_path / "run", "--framework", framework, *seeds)) == 0
    gc.collect()
    assert len(states) == 6 and not any(model() for model in models)
    # The first seed starts what stays for all: threads of the framework, caches of its compiler.
    assert states[2:] == [states[2]] * 4
    weights = load_file(tmp_path / "run/seed_1/checkpoint-best/model.safetensors")
    with_moments = 3 * sum(values.nbytes for values in weights.values())
    # Three more seeds would carry three times as much; two thirds of it is more than a process grows by chance.
    assert resident[5] - resident[2] < 2 * with_moments, (resident, with_moments)


@pytest.mark.parametrize(("framework", "package"), FRAMEWORKS)
def test_an_evaluation_leaves_nothing(framework, package, corpus, flags, tmp_path, monkeypatch):
    from experiment.training import selection

    evaluate, states = selection.evaluate, []

    def observed(*arguments):
        evaluation = evaluate(*arguments)
        states.append(_state(package))
        return evaluation

    monkeypatch.setattr(selection, "evaluate", observed)
    more = ("--framework", framework, "--seeds", "1", "--num_train_epochs", "4", "--save_steps", "0")
    assert main(flags(corpus, tmp_path / "run", *more)) == 0
    assert len(states) == 8
    files, threads = ({state[name] for state in states[2:]} for name in ("files", "threads"))
    assert len(files) == len(threads) == 1
    weights = [state["weights"] for state in states]
    # What metrics keep of the steps since the last line of the log is less than a kilobyte.
    assert max(weights[2:]) <= weights[1] + 1000, weights
