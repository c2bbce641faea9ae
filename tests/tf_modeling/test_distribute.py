"""A step over several replicas is the step of one device with the same batch."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pytest

from preprocess.base.spec import TrainerSpec
from tests.support.values import head_of
from tf_modeling import Trainer, build_model
from tf_modeling.distribute import Replicas, choose_strategy
from tf_modeling.model import parameters

ROOT = Path(__file__).resolve().parents[2]

FIGURES = ("loss", "grad_norm", "answered", "loss_answered", "loss_unanswered")
#: Does a pickled job and writes metrics and parameters.
PROGRAM = """
import contextlib, pickle, sys
import numpy as np
import tensorflow as tf
from preprocess.base.spec import TrainerSpec
from tests.support.values import head_of

job = pickle.load(open(sys.argv[1], "rb"))
scope = contextlib.nullcontext
if job["n_devices"] > 1:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * job["n_devices"])
    scope = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(job["n_devices"])]).scope
from tf_modeling import Trainer, build_model, predict, save_weights, set_seed
from tf_modeling.model import parameters

set_seed(0)
results = {}
for precision, methods in job["precisions"].items():
    with scope():
        model = build_model(job["config"], head_of(("a", "b", "c")), device="cpu", seed=1)
    assert model.strategy.num_replicas_in_sync == job["n_replicas"]
    arguments = {**job["arguments"], "precision": precision.split()[0], **methods}
    trainer = Trainer(model, TrainerSpec(n_steps=9, **arguments))
    for i, step in enumerate(job["steps"]):
        trainer.step(step)
        if i == 2:  # continuing from one's own state changes nothing
            trainer.load_state_dict(trainer.state_dict())
    metrics = trainer.metrics()
    state = trainer.state_dict()
    with trainer.evaluating():
        (logits,) = predict(model, [job["steps"][0][0]])
    figures = {name: metrics[name] for name in job["figures"]}
    values = {**state["model"], "start": logits.values["start"], **figures}
    results |= {f"{precision} {name}": value for name, value in values.items()}
    for parameter in parameters(model).values():  # every replica has made the same step
        copies = [v.numpy() for v in model.strategy.experimental_local_results(parameter.variable.value)]
        assert all(np.array_equal(copy, copies[0]) for copy in copies)
np.savez(sys.argv[2], **results)
"""


@pytest.fixture
def job(config, arguments, make_batch):
    """Five steps: even and uneven batches, one smaller than the replicas are many, two with accumulation."""
    batches = [make_batch(n=n, seed=n, padded=True, kinds=3) for n in (4, 5, 1, 3)]
    batches = [dataclasses.replace(batch, answered=np.arange(len(batch)) % 2 == 0) for batch in batches]
    return {
        "figures": FIGURES,
        "n_devices": 1,
        "n_replicas": 2,
        "config": config(initializer_range=0.1, num_hidden_layers=1),
        "arguments": arguments(adam_epsilon=1e-6, warmup_ratio=0.0),
        "steps": [[batches[0]], [batches[1]], [batches[2]], batches[:2], batches[1:]],
        "precisions": {"fp32": {}},
    }


def _here(job, precision="fp32", methods=None):
    """Take the same steps in this process, on one device."""
    model = build_model(job["config"], head_of(("a", "b", "c")), device="cpu", seed=1)
    trainer = Trainer(
        model, TrainerSpec(n_steps=9, **{**job["arguments"], "precision": precision.split()[0], **(methods or {})})
    )
    for step in job["steps"]:
        trainer.step(step)
    metrics = trainer.metrics()
    weights = {name: p.neutral(p.variable.value) for name, p in parameters(model).items()}
    return {**weights, **{name: metrics[name] for name in FIGURES}}


def _compare(found, expected, precision):
    for name, value in expected.items():
        if name in FIGURES:
            rtol = 1e-5 if precision != "fp16" else 1e-2
            assert found[f"{precision} {name}"] == pytest.approx(value, rel=rtol), name
        elif precision != "fp16":
            # Another order of summation, then Adam: as for accumulation in test_trainer.
            atol = 2e-4 if name == "head.span.bias" else 2e-5
            np.testing.assert_allclose(found[f"{precision} {name}"], value, atol=atol, rtol=0, err_msg=name)


def _run(job, path, name, **environment):
    (path / "job.pickle").write_bytes(pickle.dumps(job))
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path / "job.pickle"), str(path / name)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_devices_take_the_steps_of_one(job, tmp_path):
    methods = {"fgm_epsilon": 0.3, "rdrop_alpha": 1.0, "label_smoothing": 0.1, "ema_decay": 0.5}
    # Whole runs without methods are compared in tests/experiment/test_tensorflow.py.
    job |= {"n_devices": 2, "precisions": {"fp16": {}, "fp32 methods": methods}}
    process = _run(job, tmp_path, "found.npz")
    expected = {precision: _here(job, precision, methods) for precision, methods in job["precisions"].items()}
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    with np.load(tmp_path / "found.npz") as found:
        for precision, values in expected.items():
            _compare(found, values, precision)


def _run_cluster(job, path):
    """Run the program in two processes of one cluster; returns the output of the first to fail, None if none does."""
    with socket.socket() as a, socket.socket() as b:
        a.bind(("localhost", 0))
        b.bind(("localhost", 0))
        workers = [f"localhost:{s.getsockname()[1]}" for s in (a, b)]
    processes = [
        _run(job, path, f"found{i}.npz", TF_CONFIG=json.dumps({"cluster": {"worker": workers}, "task": task}))
        for i in (0, 1)
        for task in [{"type": "worker", "index": i}]
    ]
    with ThreadPoolExecutor() as readers:
        ends = {readers.submit(process.communicate, timeout=600): process for process in processes}
        try:
            for end in as_completed(ends):
                output, _ = end.result()
                if ends[end].returncode != 0:
                    return output
        finally:
            for process in processes:  # one that is left alone waits for the other
                process.kill()
    return None


@pytest.mark.soak
def test_two_processes_take_the_steps_of_one(job, tmp_path):
    job |= {"precisions": {"fp32": {}, "fp32 again": {}}}  # a second model in the same cluster
    failure = _run_cluster(job, tmp_path)
    if failure and "Could not start gRPC server" in failure:  # its port was taken since we found it free
        failure = _run_cluster(job, tmp_path)
    assert failure is None, failure[-3000:]
    expected = _here(job)
    for i in (0, 1):
        with np.load(tmp_path / f"found{i}.npz") as found:
            _compare(found, expected, "fp32")


def test_without_a_cluster_one_device_is_asked_for_and_nothing_is_split(make_batch, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    replicas = Replicas(choose_strategy("cpu"))
    batch = make_batch()
    ((replica, share),) = replicas.split(batch)
    assert (replicas.n_all, replica) == (1, 0) and share is batch
    assert replicas.total([1, 2]) == [1, 2]
