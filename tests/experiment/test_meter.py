"""The speed that a run reports, by a clock that is turned by hand."""

from __future__ import annotations

import contextlib
import gzip
import json
import time

import numpy as np
import pytest

from experiment.cli import main
from experiment.training.meter import Meter
from tests.experiment.test_guards import CONFIG


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def turn(seconds):
        now[0] += seconds

    return turn


def test_speed_leaves_out_what_is_no_training(clock):
    meter = Meter(CONFIG, {})
    with meter.running():
        with meter.waiting():
            clock(1)
        clock(3)
        meter.count(np.array([10, 30]))
        with meter.stopped():
            clock(1000)
        assert meter.line() == {"samples_per_s": 2 / 4, "tokens_per_s": 40 / 4, "data_wait": 1 / 4}
        clock(2)
        meter.count(np.array([20]))
        assert meter.line() == {"samples_per_s": 1 / 2, "tokens_per_s": 20 / 2, "data_wait": 0.0}
    assert meter.whole() == {"samples_per_s": 3 / 6, "tokens_per_s": 60 / 6, "data_wait": 1 / 6}
    assert meter.summary(12) == {
        "train_runtime": 6.0,
        "train_samples_per_second": 3 / 6,
        "train_steps_per_second": 12 / 6,
    }


def test_utilisation_is_of_the_known_peak_by_hand(clock):
    # One layer of width 8, with 4 x 8 x 8 and 2 x 8 x 16 weights, and the head's 8 x 2: 528, used twice by each of
    # three passes per token; 4 x 8 x 10 for each of 10 tokens' attention, three times.
    flops = 10 * 6 * 528 + 3 * 10 * 320
    meter = Meter(CONFIG, {})
    meter.peak_flops = 4.0 * flops
    with meter.running():
        clock(2)
        meter.count(np.array([10, 10]))
        assert meter.line()["mfu"] == pytest.approx(1 / 4)


def test_meter_goes_on_from_the_counts_of_another(clock):
    first = Meter(CONFIG, {})
    with first.running():
        clock(2)
        first.count(np.array([4]))
    second = Meter(CONFIG, json.loads(json.dumps(first.counts)))
    with second.running():
        clock(2)
        second.count(np.array([8]))
        assert second.line()["tokens_per_s"] == 8 / 2
    assert second.whole()["tokens_per_s"] == 12 / 4


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_run_logs_its_speed_and_writes_a_profile(framework, corpus, flags, tmp_path, capsys):
    run = tmp_path / "run"
    more = ("--framework", framework, "--profile", "--num_train_epochs", "3", "--seeds", "1")
    assert main(flags(corpus, run, *more)) == 0
    out = capsys.readouterr().out
    assert all(f" {name} " in out for name in ("samples_per_s", "tokens_per_s", "data_wait", "peak_gb"))
    record = json.loads((run / "seed_1/record.json").read_text(encoding="utf-8"))
    assert record["speed"]["tokens_per_s"] > record["speed"]["samples_per_s"] > 0
    assert 0 < record["speed"]["data_wait"] < 1 and record["pass_size"] == 2
    if framework == "tensorflow":
        assert list(run.glob("seed_1/profile/plugins/profile/*/*.xplane.pb"))
        return
    trace = json.loads(gzip.decompress((run / "seed_1/profile/trace.json.gz").read_bytes()))
    steps = [each for each in trace["traceEvents"] if "aten::_fused_adamw" in each.get("name", "")]
    assert len(steps) >= 3  # one at least for each of the three steps


def test_writing_a_profile_is_no_training_time(corpus, flags, tmp_path, monkeypatch):
    @contextlib.contextmanager
    def slow(_directory):
        yield
        time.sleep(3)

    monkeypatch.setattr("pytorch_modeling.profiler", slow)
    assert main(flags(corpus, tmp_path / "run", "--profile", "--seeds", "1")) == 0  # 6 steps: it ends with training
    speed = json.loads((tmp_path / "run/seed_1/record.json").read_text())["speed"]
    assert 12 / speed["samples_per_s"] < 3


def test_clock_that_stands_still_is_not_started_by_a_pause(clock):
    meter = Meter(CONFIG, {})
    with meter.running():
        clock(2)
        meter.count(np.array([10]))
    clock(100)
    with meter.stopped():
        clock(100)
    clock(100)
    assert meter.whole()["samples_per_s"] == 1 / 2


def test_run_too_short_for_a_profile_says_so(corpus, flags, tmp_path, capsys):
    assert main(flags(corpus, tmp_path / "run", "--profile", "--num_train_epochs", "1", "--seeds", "1")) == 0
    assert "seed 1: no profile, which begins after 5 steps" in capsys.readouterr().out
    assert not (tmp_path / "run/seed_1/profile").exists()
