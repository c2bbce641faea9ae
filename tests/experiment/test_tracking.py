"""`--report_to`: each tracker gets the curves through its own library's calls, and none is worth a training."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys

import pytest

from experiment.cli import main
from experiment.io.trackers import TRACKERS, trackers_of
from preprocess.base.errors import UsageError
from tests.experiment.conftest import write_corpus

#: Writes down every call of it. What stands for the libraries: their names and arguments, nothing of what they do.
_FAKE = """
import json, os

def _call(name, /, *arguments, **named):
    with open(os.environ["CALLS"], "a") as file:
        file.write(json.dumps([__name__, name, arguments, named], default=str) + "\\n")
    if os.environ.get("FAILS") == name:
        raise {error}
    return _Run()

class _Run:
    def log(self, *arguments, **named):
        _call("log", *arguments, **named)
    def finish(self, **named):
        _call("finish", **named)

def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda *arguments, **named: _call(name, *arguments, **named)
"""


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Packages of the trackers' names; returns the calls so far."""
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))

    def install(error: str = "RuntimeError('no\\nnetwork')"):
        for name in TRACKERS:
            (tmp_path / f"{name}.py").write_text(_FAKE.replace("{error}", error))
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()

    install()

    def calls():
        path = tmp_path / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    yield calls, install
    for name in TRACKERS:
        sys.modules.pop(name, None)


@pytest.fixture
def train(tmp_path, flags):
    corpus = write_corpus(tmp_path)

    def run(*more: str, output: str = "run") -> int:
        return main(flags(corpus, tmp_path / output, "--seeds", "1", "--logging_steps", "2", *more))

    return run


def test_every_tracker_gets_the_curves_of_tensorboard(fakes, train, tmp_path):
    assert train("--report_to", "tensorboard,mlflow", "wandb", "swanlab,trackio") == 0
    calls = fakes[0]()
    assert (tmp_path / "run" / "seed_1" / "tensorboard").is_dir()
    logged = {}
    for module, name, arguments, named in calls:
        if name in ("log", "log_metrics"):
            logged.setdefault(module, []).append((sorted(arguments[0]), named["step"]))
    assert logged.keys() == TRACKERS.keys() and len({str(curve) for curve in logged.values()}) == 1
    steps = [step for _, step in logged["wandb"]]
    assert steps == sorted(steps) and steps[-1] == 6
    assert "train/loss" in logged["wandb"][0][0] and "dev/f1" in logged["wandb"][-1][0]
    by_name = {(module, name): (arguments, named) for module, name, arguments, named in calls}
    assert by_name["mlflow", "set_experiment"] == (["chinese-mrc cmrc2018"], {})
    assert by_name["mlflow", "start_run"] == ([], {"run_name": "run seed 1"})
    assert by_name["mlflow", "log_params"][0][0]["learning_rate"] == "0.001"
    assert by_name["mlflow", "end_run"] == ([], {"status": "FINISHED"})
    begun = by_name["wandb", "init"][1]
    assert (begun["project"], begun["group"], begun["name"]) == ("chinese-mrc", "cmrc2018", "run seed 1")
    assert begun["config"]["seed"] == 1 and by_name["wandb", "finish"] == ([], {"exit_code": 0})
    assert by_name["swanlab", "init"][1]["experiment_name"] == "cmrc2018 run seed 1"
    assert by_name["trackio", "init"][1]["name"] == "cmrc2018 run seed 1"
    assert ("swanlab", "finish") in by_name and ("trackio", "finish") in by_name


@pytest.mark.parametrize("where", ["init", "log", "finish"])
@pytest.mark.parametrize("error", ["RuntimeError('no\\nnetwork')", "SystemExit('no network')"])
def test_a_tracker_that_fails_ends_alone(where, error, fakes, train, tmp_path, monkeypatch, capsys):
    """A training of days must not end because a server of somebody else's has gone."""
    calls, install = fakes
    install(error)
    monkeypatch.setenv("FAILS", where)
    assert train("--report_to", "wandb,mlflow") == 0
    out = capsys.readouterr().out
    assert out.count("no more curves for wandb (no network); training goes on") == 1
    assert json.loads((tmp_path / "run" / "seed_1" / "record.json").read_text())["status"] == "finished"
    assert [name for module, name, *_ in calls() if module == "mlflow"][-1] == "end_run"
    assert not (tmp_path / "run" / "seed_1" / "tensorboard").exists()


def test_a_training_that_fails_is_not_called_finished(fakes, train, monkeypatch):
    monkeypatch.setattr("experiment.training.loop._take", lambda *_: (_ for _ in ()).throw(OSError("gone")))
    assert train("--report_to", "mlflow,wandb") == 2
    ends = {module: named for module, name, _, named in fakes[0]() if name in ("end_run", "finish")}
    assert ends == {"mlflow": {"status": "FAILED"}, "wandb": {"exit_code": 1}}


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_package_that_is_missing_is_said_before_anything_else(train, tmp_path, capsys):
    assert train("--report_to", "wandb") == 2
    said = capsys.readouterr().err
    assert said == "error: --report_to wandb: wandb is not installed; pip install wandb, or leave it out\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(importlib.util.find_spec("swanlab") is not None, reason="swanlab is installed")
def test_a_directory_of_that_name_is_no_package(tmp_path, monkeypatch):
    """wandb and others leave their own where they were run."""
    (tmp_path / "swanlab").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="swanlab is not installed"):
        trackers_of(("swanlab",))


def test_a_name_that_is_none_is_refused(train, capsys):
    assert train("--report_to", "tensorbord,mlflow") == 2
    said = capsys.readouterr().err
    assert "--report_to tensorbord,mlflow: must be one or more of tensorboard, mlflow, wandb" in said


def test_nobody_is_told_where_nobody_is_to_be(train, tmp_path):
    assert train("--report_to", "none") == 0
    assert not (tmp_path / "run" / "seed_1" / "tensorboard").exists()


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")
def test_mlflow_keeps_the_curves_in_a_store_of_files(train, tmp_path, monkeypatch):
    mlflow = importlib.import_module("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # without it, version 3.17 wants a database
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    assert train("--report_to", "mlflow") == 0
    client = mlflow.tracking.MlflowClient()
    experiment = client.get_experiment_by_name("chinese-mrc cmrc2018")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.data.params["learning_rate"] == "0.001"
    record = json.loads((tmp_path / "run" / "seed_1" / "record.json").read_text())
    curve = [(one.step, one.value) for one in client.get_metric_history(found.info.run_id, "dev/f1")]
    assert curve == [(evaluation["step"], evaluation["dev"]["f1"]) for evaluation in record["evaluations"]]
