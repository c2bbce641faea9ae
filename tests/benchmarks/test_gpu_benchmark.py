"""The GPU benchmark on a CPU, with a tiny model: it runs where nothing but its own needs is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"
#: What a machine with a GPU need not have.
ABSENT = "tensorflow keras opencc jieba rich nltk sentencepiece datasets tensorboard"


@pytest.fixture
def gpu(monkeypatch):
    """The script as a module; its main is called on a machine without a GPU."""
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    return module


def test_a_trial_measures_all_sides_without_the_absent_packages():
    program = "import runpy, sys; hidden, *sys.argv = sys.argv[1:]\n"
    program += "sys.modules.update(dict.fromkeys(hidden.split()))\n"  # None stands for a package that is not there
    program += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", program, ABSENT, str(SCRIPT), "--tiny", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["name"] == "gpu" and result["ok"] and result["bars"] == {}
    sides = result["parts"]["tiny-64"]
    assert set(sides) == {"ours", "grouped", "trainer"}
    for values in sides.values():
        assert values["windows_per_s"] > 0 and values["batch_size"] in (2, 4)
        assert values["mfu"] is None  # nothing is known of a CPU's peak


def test_without_a_cuda_device_it_says_so_and_lets_the_next_benchmark_run(gpu, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 0
    assert json.loads(capsys.readouterr().out) == {"name": "gpu", "skipped": "no CUDA device"}


@pytest.mark.parametrize(("arguments", "problem"), [(["base"], "'base'"), (["--device", "cpu"], "--tiny")])
def test_bad_arguments_are_one_line_and_status_2(gpu, arguments, problem, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("n_fitting", "found"), [(64, 64), (65, 64), (2, 2), (1, 0), (127, 126), (500, 128)])
def test_largest_batch_is_the_last_even_one_that_fits(gpu, n_fitting, found, monkeypatch):
    fractions = []
    monkeypatch.setattr(gpu, "measure", lambda part, side, size, **_: None if size > n_fitting else size)
    monkeypatch.setattr(gpu.torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80e9))
    monkeypatch.setattr(gpu.torch.cuda, "set_per_process_memory_fraction", lambda f, _: fractions.append(f))
    part = gpu.Part("base", 384, torch.device("cuda:0"), False)
    assert gpu.largest_batch(part, gpu.our_passes) == found
    assert fractions == [0.2, 1.0]


def test_a_side_that_runs_out_of_memory_is_no_result(gpu):
    def side(part, batch_size):
        raise torch.OutOfMemoryError

    assert gpu.measure(gpu.Part("tiny", 64, torch.device("cpu"), False), side, 2) is None


def test_bars_are_those_of_the_parts_that_were_measured(gpu):
    speeds = {"ours": 400.0, "grouped": 600.0, "trainer": 200.0}
    known, unknown = (
        {side: {"windows_per_s": speed, "mfu": mfu} for side, speed in speeds.items()} for mfu in (0.5, None)
    )
    found = list(gpu.goals({"large-384": known, "base-512": known, "large-512": unknown, "tiny-64": known}))
    ratios = [(f"{name} grouped / trainer", 3.0, 2.0) for name in ("large-384", "base-512", "large-512")]
    assert found == [
        ("large-384 windows/s", 400.0, 440.0),
        ratios[0],
        ("base-512 MFU", 0.5, 0.4),
        *ratios[1:],
    ]


def test_windows_have_the_lengths_of_the_deciles(gpu):
    features = gpu.windows(1000, 512)
    assert features.lengths.max() == 512 and features.lengths.min() >= 176
    assert abs(features.lengths.mean() - 445) < 5  # CMRC2018 train: 445.1
    batch = gpu.collate(features, range(8), pad_to_multiple_of=512)
    assert batch.inputs["input_ids"].shape == (8, 512)
    assert (batch.targets["end"] < features.lengths[:8]).all() and (batch.targets["start"] >= 17).all()
