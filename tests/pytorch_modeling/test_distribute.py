"""Two processes take the steps of one with the same batches, and give the same predictions."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from preprocess.base.spec import TrainerSpec
from pretrained_configs.checkpoint import read_checkpoint
from pytorch_modeling import Trainer, build_model, load_weights, predict, save_weights, set_seed
from pytorch_modeling.distribute import Group, share
from tests.pytorch_modeling.test_trainer import ARGUMENTS, CONFIG, make_batch
from tests.support.values import head_of

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("a", "b", "c")
N_STEPS = 20
MODELS = ("span", "kinds", "albert", "repeated", "sharded span", "sharded kinds", "sharded albert")
MODELS += ("methods", "lora", "sharded methods", "sharded frozen")
METHODS = {
    "methods": {"pgd_epsilon": 0.3, "pgd_steps": 2, "rdrop_alpha": 1.0, "label_smoothing": 0.1, "ema_decay": 0.5},
    "frozen": {"freeze_layers": 1, "layerwise_lr_decay": 0.5, "ema_decay": 0.5},
    "lora": {"lora_rank": 2, "ema_decay": 0.5},
}
#: Does a pickled job in each process, and writes what each has found.
PROGRAM = """
import pickle, sys
from pathlib import Path
from pytorch_modeling import Group
from tests.pytorch_modeling.test_distribute import work

job = pickle.loads(Path(sys.argv[1]).read_bytes())
group = Group.current()
assert group.size == 2 and group.gather(group.rank * 10) == [0, 10] and group.first(group.rank) == 0
Path(sys.argv[1]).with_name(f"found{group.rank}").write_bytes(pickle.dumps(work(**job)))
"""


def work(models, steps, dropout, states):
    """Train each model; then one with dropout, in one go, in two halves, and on from other processes' states."""
    found = {}
    for name, (config, kinds, n_recomputed, how) in models.items():
        repeatable = how == "repeated"
        trainer = _trainer(config, kinds, how=how)
        trainer.model.encoder.n_recomputed = n_recomputed
        for i, batches in enumerate(steps):
            if repeatable and i == 3:
                _assert_out_of_memory_in_all(trainer, batches)
            trainer.step(batches)
        with trainer.evaluating():
            logits = list(predict(trainer.model, [make_batch(n=n, seed=n, kinds=3) for n in (3, 1, 2)]))
        found[name] = {"metrics": trainer.metrics(), "state": trainer.state_dict(), "logits": logits}
    whole = _trainer(dropout, ())
    found["fresh"] = whole.state_dict()
    found["saved"] = _after(whole, steps[:2])
    found["whole"] = _after(whole, steps[2:4])
    how = "sharded"  # alone: whole
    shards = _trainer(dropout, (), how=how)
    saved = _after(shards, steps[:2])
    if Group.current().size > 1:
        found["held"] = [(p.to_local().numel(), p.numel()) for p in shards.model.parameters()]
    found["shards"] = [_after(shards, steps[2:4]), _after(_trainer(dropout, (), saved, how), steps[2:4])]
    with tempfile.TemporaryDirectory() as name:
        place = Group.current().first(name)
        save_weights(shards.model, Path(place) if Group.current().rank == 0 else None)
        Group.current().first(None)
        other = _trainer(dropout, (), how=how)
        load_weights(other.model, read_checkpoint(place), fresh_head=False)
        found["loaded"] = other.state_dict()["model"]
        Group.current().gather(None)  # all have read it
    found["continued"] = [_after(_trainer(dropout, (), state), steps[2:4]) for state in (found["saved"], *states)]
    return found


def _assert_out_of_memory_in_all(trainer, batches):
    """Let the last process run out of memory, and see that all of them say so."""
    if Group.current().rank == Group.current().size - 1:
        trainer._loss = Mock(side_effect=torch.OutOfMemoryError("this process has no memory left"))
    with pytest.raises(MemoryError, match="this process has no memory left"):
        trainer.step(batches)
    vars(trainer).pop("_loss", None)


def _trainer(config, kinds, state=None, how="replicated"):
    set_seed(0)
    model = build_model(config, head_of(kinds), device="cpu", seed=1)
    fsdp = how.startswith("sharded") and Group.current().size > 1
    options = {"auto_find_batch_size": how == "repeated", "fsdp": fsdp, **METHODS.get(how.split()[-1], {})}
    trainer = Trainer(model, TrainerSpec(n_steps=N_STEPS, **options, **ARGUMENTS))
    if state is not None:
        trainer.load_state_dict(state)
    return trainer


def _after(trainer, steps):
    for batches in steps:
        trainer.step(batches)
    return trainer.state_dict()


def _steps():
    """Make batches of uneven size, one smaller than the processes are many; every third step accumulates two."""
    batches = [make_batch(n=(4, 5, 1, 3)[i % 4], seed=i, padded=True, kinds=3) for i in range(N_STEPS)]
    batches = [dataclasses.replace(batch, answered=np.arange(len(batch)) % 2 == 0) for batch in batches]
    return [[batch] if i % 3 else [batch, batches[i - 1]] for i, batch in enumerate(batches)]


@pytest.fixture(scope="module")
def job():
    albert = dataclasses.replace(CONFIG, model_type="albert", embedding_size=16, embedding_projection="output")
    dropout = dataclasses.replace(CONFIG, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    return {
        "models": {
            "span": (CONFIG, (), 0, "replicated"),
            "kinds": (CONFIG, KINDS, 0, "replicated"),
            "albert": (albert, KINDS, 1, "replicated"),
            "repeated": (CONFIG, KINDS, 0, "repeated"),
            "sharded span": (CONFIG, (), 1, "sharded"),
            "sharded kinds": (CONFIG, KINDS, 0, "sharded"),
            "sharded albert": (albert, KINDS, 0, "sharded"),
            **{name: (CONFIG, KINDS, 0, name) for name in MODELS if name.split()[-1] in METHODS},
        },
        "steps": _steps(),
        "dropout": dropout,
        "states": [_after(_trainer(dropout, ()), _steps()[:2])],
    }


@pytest.fixture(scope="module")
def found(job, tmp_path_factory):
    """Return what each of two processes has found."""
    place = tmp_path_factory.mktemp("distribute")
    (place / "program.py").write_text(PROGRAM, encoding="utf-8")
    (place / "job").write_bytes(pickle.dumps(job))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, str(place / "program.py"), str(place / "job")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [pickle.loads((place / f"found{rank}").read_bytes()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone(job):
    return work(**job)


def _equal(a, b):
    """Whether two states are the same to the last bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return np.array_equal(a, b)


def _determined(state, kinds):
    """Return the parameters that the loss depends on.

    Adam scales the rounding errors that are the gradients of the others up to whole steps: a softmax does not change
    with a constant added to its logits, which is what the bias of the span head, that of the keys and, if only the
    span head reads it, that of the last layer do.
    """
    values = {name: value for name, value in state["model"].items() if name != "head.span.bias"}
    if not kinds:
        del values["layers.1.ffn_norm.bias"]
    for name in values:
        if name.endswith("qkv.bias"):
            values[name] = np.delete(values[name], slice(CONFIG.hidden_size, 2 * CONFIG.hidden_size))
    return values


@pytest.mark.parametrize("model", MODELS)
def test_two_processes_take_the_steps_of_one(found, alone, job, model):
    for name, expected in _determined(alone[model]["state"], job["models"][model][1]).items():
        value = _determined(found[0][model]["state"], job["models"][model][1])[name]
        # Another order of summation, 20 steps long: 1.2e-7 is found, and the steps move parameters by up to 1e-2.
        np.testing.assert_allclose(value, expected, atol=1e-6, rtol=0, err_msg=name)
    for name, value in alone[model]["metrics"].items():
        assert found[0][model]["metrics"][name] == pytest.approx(value, rel=1e-6), name
    assert _equal(found[0][model]["state"], found[1][model]["state"])


@pytest.mark.parametrize("model", MODELS)
def test_two_processes_predict_what_one_predicts_all_of_it_in_each(found, alone, model):
    for each in found:
        assert len(each[model]["logits"]) == 3
        for logits, expected in zip(each[model]["logits"], alone[model]["logits"], strict=True):
            assert np.array_equal(logits.window, expected.window)
            # The parameters differ by 1e-7, and by their span bias, which shifts all logits of a head alike.
            for a, b in ((logits.values[name], expected.values[name]) for name in ("start", "end")):
                np.testing.assert_allclose(a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True), atol=1e-5)
            assert ("kind" not in logits.values) == model.endswith("span")


def test_dropout_differs_between_processes_and_continues_bit_exactly(found):
    for state in (found[0]["fresh"], found[0]["saved"]):
        assert list(state["rng"]) == ["0", "1"]
        assert not np.array_equal(state["rng"]["0"]["cpu"], state["rng"]["1"]["cpu"])
    for each in found:
        assert _equal(each["continued"][0], each["whole"])


def test_sharded_model_continues_bit_exactly_and_is_saved_whole(found):
    for each in found:
        assert _equal(*each["shards"])
        assert _equal(each["loaded"], each["shards"][0]["model"])
    assert _equal(found[0]["shards"][0], found[1]["shards"][0])
    for first, second in zip(found[0]["held"], found[1]["held"], strict=True):
        assert first[0] + second[0] == first[1] and (second[0] > 0 or first[1] == 1)


def test_training_goes_on_with_another_number_of_processes(found, alone, job):
    more = found[0]["continued"][1]  # begun by one
    assert more["n_done"] == 4 and list(more["rng"]) == ["0", "1"]
    assert not np.array_equal(more["rng"]["0"]["cpu"], more["rng"]["1"]["cpu"])
    assert _equal(found[0]["continued"][1], found[1]["continued"][1])
    fewer = _trainer(job["dropout"], (), found[0]["saved"]).state_dict()
    assert _equal({"0": found[0]["saved"]["rng"]["0"]}, fewer["rng"])
    assert _equal(found[0]["saved"]["optimizer"], fewer["optimizer"])


def test_rows_are_shared_out_and_none_is_counted_twice():
    batch = make_batch(n=5)
    shares = [share(batch, Group(rank, 3)) for rank in range(3)]
    assert [each.window.tolist() for each, _ in shares] == [[0, 1], [2, 3], [4]]
    assert [weight for _, weight in shares] == [1.0, 1.0, 1.0]
    few = [share(make_batch(n=2), Group(rank, 3)) for rank in range(3)]
    assert [each.window.tolist() for each, _ in few] == [[0], [1], [0]]
    assert [weight for _, weight in few] == [1.0, 1.0, 0.0]


def test_a_process_alone_is_a_group_of_one():
    group = Group.current()
    assert (group.rank, group.size) == (0, 1)
    assert group.gather("x") == ["x"] and group.first("x") == "x"
