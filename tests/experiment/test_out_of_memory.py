"""Steps that run out of memory are taken again in smaller parts, and nothing else of the run changes."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from experiment.cli import main
from preprocess.base.spec import TrainerSpec
from tests.experiment.test_guards import ARGUMENTS, CONFIG, _assert_equal, _batch
from tests.support.values import SPAN

ROOT = Path(__file__).resolve().parents[2]
#: A step of a model with a limit on its memory; prints how the step ended, and whether it then succeeds in parts.
LIMITED = """
import resource, sys
import numpy as np
from preprocess.base.spec import TrainerSpec
from tests.support.values import SPAN
from pytorch_modeling import Trainer, build_model
from tests.experiment.test_guards import ARGUMENTS
from tests.pytorch_modeling.test_trainer import make_batch
from pretrained_configs.config import ModelConfig

config = ModelConfig(60, 64, 4, 4, 256, max_position_embeddings=512)
model = build_model(config, SPAN, device="cpu", seed=1)
trainer = Trainer(model, TrainerSpec(precision="fp32", auto_find_batch_size=True, **ARGUMENTS))
trainer.step([make_batch(n=2, length=512)])
used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()  # data and stack
resource.setrlimit(resource.RLIMIT_DATA, (used + 200 * 2**20,) * 2)
batch = make_batch(n=64, length=512)
before = trainer.state_dict()
try:
    trainer.step([batch])
except MemoryError as error:
    print("out of memory:", str(error).splitlines()[0])
after = trainer.state_dict()
print(all(np.array_equal(after["model"][name], value) for name, value in before["model"].items()))
print(np.array_equal(after["rng"]["0"]["cpu"], before["rng"]["0"]["cpu"]))
trainer.step([make_batch(n=4, length=512)])
print(trainer.metrics()["skipped_steps"])
"""


def _exhausted(package):
    """Return the error by which a framework says that memory ran out; what it means is known once it is loaded."""
    importlib.import_module(package)
    if package == "tf_modeling":
        from tensorflow.errors import ResourceExhaustedError

        return ResourceExhaustedError(None, None, "OOM when allocating tensor")
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")


def _failing(monkeypatch, trainer, package, name, failing_calls):
    """Let calls of a trainer's method fail after they have done their work, as if the next allocation had failed."""
    method, calls = getattr(trainer, name), []

    def limited(*arguments, **named):
        calls.append(1)
        result = method(*arguments, **named)
        if len(calls) in failing_calls:
            raise _exhausted(package)
        return result

    monkeypatch.setattr(trainer, name, limited)


@pytest.mark.parametrize(("package", "method"), [("pytorch_modeling", "_loss"), ("tf_modeling", "_part")])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_step_without_memory_leaves_everything_as_it_was(package, method, precision, monkeypatch):
    backend = importlib.import_module(package)
    states = []
    for fails in (True, False):
        backend.set_seed(3)
        model = backend.build_model(CONFIG, SPAN, device="cpu", seed=1)
        trainer = backend.Trainer(model, TrainerSpec(**ARGUMENTS, precision=precision, auto_find_batch_size=True))
        trainer.step([_batch(0)])
        if fails:
            before = trainer.state_dict()
            _failing(monkeypatch, trainer, package, method, {2})
            with pytest.raises(MemoryError, match="(?i)memory|OOM"):
                trainer.step([_batch(1), _batch(2)])
            _assert_equal(trainer.state_dict(), before)
        trainer.step([_batch(1), _batch(2)])
        states.append(trainer.state_dict())
    _assert_equal(*states)


@pytest.mark.parametrize(("package", "method"), [("pytorch_modeling", "_loss"), ("tf_modeling", "_whole")])
def test_without_the_option_the_frameworks_error_comes_through(package, method, monkeypatch):
    backend = importlib.import_module(package)
    model = backend.build_model(CONFIG, SPAN, device="cpu", seed=1)
    trainer = backend.Trainer(model, TrainerSpec(**ARGUMENTS, precision="fp32"))
    _failing(monkeypatch, trainer, package, method, {1})
    with pytest.raises(type(_exhausted(package))):
        trainer.step([_batch(1)])


def test_real_lack_of_memory_is_survived():
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True, timeout=600)
    lines = done.stdout.splitlines()
    assert lines and lines[0].startswith("out of memory:"), done.stderr[-2000:]
    assert lines[1:] == ["True", "True", "0.0"]


@pytest.fixture
def still(corpus):
    """Return the flag of a model without dropout, which passes of another size would draw otherwise."""
    config = json.loads((corpus.model / "config.json").read_text(encoding="utf-8"))
    path = corpus.model / "config.json"
    path.write_text(json.dumps({**config, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}))
    return corpus


def _limit(monkeypatch, package, most):
    """Let every pass of more windows than `most` run out of memory."""
    backend = importlib.import_module(package)
    step = backend.Trainer.step

    def limited(self, batches):
        if max(len(batch) for batch in batches) > most:
            raise MemoryError("out of memory")
        step(self, batches)

    monkeypatch.setattr(backend.Trainer, "step", limited)


@pytest.mark.parametrize(("framework", "package"), [("pytorch", "pytorch_modeling"), ("tensorflow", "tf_modeling")])
def test_halved_passes_end_where_whole_ones_do(still, flags, tmp_path, monkeypatch, capsys, framework, package):
    def command(name, *more):
        size = ("--per_device_train_batch_size", "6", "--seeds", "1", "--framework", framework)
        return flags(still, tmp_path / name, *size, *more)

    assert main(command("whole")) == 0
    _limit(monkeypatch, package, most=2)
    assert main(command("halved", "--auto_find_batch_size")) == 0
    assert "seed 1 step 1: out of memory with 6 windows per forward pass" in capsys.readouterr().out
    records = [
        json.loads((tmp_path / name / "seed_1/record.json").read_text(encoding="utf-8"))
        for name in ("whole", "halved")
    ]
    assert [record["pass_size"] for record in records] == [6, 2]
    assert [record["n_steps"] for record in records] == [2, 2]
    assert records[0]["scores"] == records[1]["scores"]
    for a, b in zip(*(record["evaluations"] for record in records), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    from safetensors.numpy import load_file

    whole, halved = (
        load_file(tmp_path / name / "seed_1/checkpoint-best/model.safetensors") for name in ("whole", "halved")
    )
    for name, expected in whole.items():
        # Adam scales the rounding that is the gradient of a bias without influence up to steps of the rate, 1e-3.
        atol = 2e-3 if name.endswith((".key.bias", "qa_outputs.bias", "output.LayerNorm.bias")) else 2e-6
        np.testing.assert_allclose(halved[name], expected, atol=atol, rtol=0, err_msg=name)


def test_interrupted_run_goes_on_with_the_passes_it_had_found(still, flags, tmp_path, monkeypatch, capsys):
    import pytorch_modeling

    def command(*more):
        return flags(still, tmp_path / "run", "--seeds", "1", "--auto_find_batch_size", *more)

    _limit(monkeypatch, "pytorch_modeling", most=1)
    step, steps = pytorch_modeling.Trainer.step, []

    def dying(self, batches):
        step(self, batches)
        steps.append(1)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(pytorch_modeling.Trainer, "step", dying)
    assert main(command()) == 130
    assert main(command()) == 0
    out = capsys.readouterr().out
    assert out.count("out of memory with 2 windows") == 1 and "goes on after step 3/6" in out


def test_run_that_never_ran_out_of_memory_may_go_on_with_larger_passes(still, flags, tmp_path, monkeypatch):
    import pytorch_modeling

    step, passes = pytorch_modeling.Trainer.step, []

    def dying(self, batches):
        step(self, batches)
        passes.append([len(batch) for batch in batches])
        if len(passes) == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(pytorch_modeling.Trainer, "step", dying)
    for size, n_passes, status in (("1", "2", 130), ("2", "1", 0)):
        batch = ("--per_device_train_batch_size", size, "--gradient_accumulation_steps", n_passes)
        assert main(flags(still, tmp_path / "run", "--seeds", "1", *batch)) == status
    assert passes == [[1, 1]] * 3 + [[2]] * 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: _exhausted("pytorch_modeling"),
        lambda: _exhausted("tf_modeling"),
        lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        lambda: MemoryError("Unable to allocate 8.00 TiB for an array"),
    ],
    ids=["PyTorch on a GPU", "TensorFlow", "PyTorch on a CPU", "numpy"],
)
def test_memory_that_runs_out_is_one_line_with_a_remedy(make, corpus, flags, tmp_path, monkeypatch, capsys):
    error = make()
    monkeypatch.setattr("pytorch_modeling.Trainer.step", Mock(side_effect=error))
    assert main(flags(corpus, tmp_path / "run", "--seeds", "1")) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory; ") and said.count("\n") == 1
    assert "--auto_find_batch_size" in said
    assert str(error) in json.loads((tmp_path / "run/seed_1/record.json").read_text())["error"]


def test_one_window_that_does_not_fit_is_one_line_with_a_remedy(still, flags, tmp_path, monkeypatch, capsys):
    _limit(monkeypatch, "pytorch_modeling", most=0)
    assert main(flags(still, tmp_path / "run", "--auto_find_batch_size")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert "one window" in error and "--gradient_checkpointing" in error
