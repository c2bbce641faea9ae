"""The benchmarks that train through the command line, on a few questions: their figures are there and compared."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest

from pretrained_configs.config import ModelConfig


@pytest.fixture
def benchmark(monkeypatch):
    """Return a benchmark's module with other constants."""

    def load(name, **constants):
        module = importlib.import_module(f"benchmarks.{name}")
        for constant, value in constants.items():
            assert hasattr(module, constant)
            monkeypatch.setattr(module, constant, value)
        monkeypatch.setattr("sys.argv", [name])
        return module

    return load


@pytest.mark.soak
def test_end_to_end_compares_runs_on_the_same_windows(benchmark, data_dir, monkeypatch, capsys):
    end_to_end = benchmark("end_to_end", N_TRAIN=6, N_DEV=3, SEEDS=(1,), EPOCHS=1, BATCH=4, ROUNDS=1)
    monkeypatch.setitem(end_to_end.CONFIG, "hidden_size", 32)
    monkeypatch.setenv("MRC_DATA_DIR", str(data_dir))
    status = end_to_end.main()
    *lines, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert status == (0 if result["ok"] else 1) and result["ok"] == (result["ratio"] >= result["bar"])
    assert [line.split()[0] for line in lines if "processors" in line] == ["ours", "recipe", "recipe"]
    windows = {line.partition(";")[0].strip() for line in lines if line.lstrip().startswith("windows ")}
    assert len(windows) == 1, windows
    assert all(value > 0 for ratios in result["ratios"].values() for value in ratios.values())


def test_accuracy_trains_and_compares_every_variant(benchmark, capsys):
    variants = {"default": ["--bf16"], "torch dropout": []}  # each of them is a process
    accuracy = benchmark("accuracy", N_TRAIN=4, N_DEV=3, SEEDS=(1, 2), EPOCHS=1, VARIANTS=variants)
    assert accuracy.main() in (0, 1)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["f1"].keys() == accuracy.VARIANTS.keys()
    assert result["against_default"].keys() == accuracy.VARIANTS.keys() - {accuracy.DEFAULT}


def _outcome(accuracy, run, scores):
    """Return the outcome of a run with these scores: seed -> question -> F1 and EM, in percent."""
    for seed, values in zip(accuracy.SEEDS, scores, strict=True):
        (run / f"seed_{seed}").mkdir(parents=True)
        mean = sum(values) / len(values)
        questions = {f"C{i // 2}_QUERY_{i % 2}": {"f1": value / 100} for i, value in enumerate(values)}
        content = {"values": {"f1": mean, "em": mean}, "per_example": questions}
        (run / f"seed_{seed}" / "scores_dev.json").write_text(json.dumps(content), encoding="utf-8")
    return accuracy.Outcome(run)


@pytest.mark.parametrize(("loss", "significant"), [(0.0, False), (5.0, True)])
def test_accuracy_notices_a_loss_of_five_points_under_noise(benchmark, tmp_path, loss, significant):
    accuracy = benchmark("accuracy")
    random = np.random.default_rng(0)
    default = random.normal(80, 2, (5, 60))
    variant = default + random.normal(0, 2, default.shape) - loss
    found = accuracy.compare(
        _outcome(accuracy, tmp_path / "variant", variant.tolist()),
        _outcome(accuracy, tmp_path / "default", default.tolist()),
    )
    assert found["f1"]["difference"] == pytest.approx(float((variant - default).mean()), abs=1e-3)
    low, high = found["f1"]["interval"]
    assert low < found["f1"]["difference"] < high
    assert all((p < 0.05) == significant for p in found["p"].values()), found


def test_holm_adjusts_from_the_smallest_on(benchmark):
    assert benchmark("accuracy").holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_methods_are_held_against_their_bars(benchmark, capsys):
    methods = benchmark("methods", LENGTH=16, BATCH=2, ROUNDS=2, CONFIG=ModelConfig(50, 16, 1, 2, 24))
    status = methods.main()
    *lines, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert list(result["ratios"]) == [line.split()[0] for line in lines] == list(methods.METHODS)
    assert all(ratio > 0 for ratio in result["ratios"].values())
    above = [name for name, bar in methods.BARS.items() if result["ratios"][name] > bar]
    assert result["ok"] == (not above) and status == (1 if above else 0)
