"""`torchrun run_mrc.py train`: the files of one process, whatever happens to one of several."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from benchmarks.kill import digest
from experiment.cli import main
from pytorch_modeling import encoder
from tests.experiment.conftest import ROOT, write_corpus

#: Runs the program; in one process that has not been restarted, a fault of `faults` happens at a call: rank, place,
#: call, fault, flags.
PROGRAM = """
import atexit, os, sys
from pathlib import Path
from tests.experiment.faults import program

def count_threads():
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    print("threads of gloo at the end:", sum("gloo" in name for name in names))

atexit.register(count_threads)

rank, place, call, fault, *flags = sys.argv[1:]
chosen = os.environ["RANK"] == rank and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
program(flags, place if chosen else "", int(call), fault)
"""
LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("distributed")
    (directory / "program.py").write_text(PROGRAM, encoding="utf-8")
    return directory, write_corpus(directory)


@pytest.fixture
def torchrun(place):
    """Run the program in two processes; what one of them suffers is said first."""

    def run(*flags, fault=("-1", "", "0", "kill"), launcher=()):
        return subprocess.run(
            [*LAUNCHER, *launcher, str(place[0] / "program.py"), *fault, *flags],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


@pytest.fixture
def train(place, flags):
    """Return the command that trains one seed by steps of two windows, on any number of processes."""

    def command(output, n_processes, *more):
        size = ("--per_device_train_batch_size", str(2 // n_processes))
        return flags(place[1], output, "--seeds", "1", "--save_steps", "1", *size, *more)

    return command


def _still(place):
    """Write a model without dropout, which no two processes draw alike; returns its flag."""
    config = json.loads((place[1].model / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path = place[0] / "still.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return ["--config_name", str(path), "--tokenizer_name", str(place[1].model)]


@pytest.mark.parametrize("how", [(), ("--fsdp",)])
def test_two_processes_leave_what_one_leaves(how, place, torchrun, train, tmp_path, monkeypatch):
    still = _still(place)
    done = torchrun(*train(tmp_path / "two", 2, *still, *how))
    assert done.returncode == 0, done.stderr[-3000:]
    if not how:  # a thread that frees a tensor when Python is no more aborts its process
        assert done.stdout.count("threads of gloo at the end: 0") == 2, done.stdout[-200:]
    recomputed = Mock(wraps=encoder.checkpoint)
    monkeypatch.setattr(encoder, "checkpoint", recomputed)
    precise = ("--gradient_checkpointing", "1", "--tf32", "--full_determinism")
    assert main([*train(tmp_path / "one", 1, *still), *precise]) == 0
    assert recomputed.call_count == 6 and torch.backends.cuda.matmul.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()  # a CPU's are, and some operations would be refused
    one, two = tmp_path / "one", tmp_path / "two"
    assert sorted(digest(two)) == sorted(digest(one))
    assert done.stdout.count("seed 1 step 6/6") == 1
    assert len(list(two.glob("seed_1/tensorboard/*"))) == 1
    for name in ("predictions_dev.json", "scores_dev.json"):
        assert (two / "seed_1" / name).read_bytes() == (one / "seed_1" / name).read_bytes()
    assert (two / "leaderboard.md").read_text(encoding="utf-8") == (one / "leaderboard.md").read_text(
        encoding="utf-8"
    )
    records = [json.loads((path / "seed_1/record.json").read_text(encoding="utf-8")) for path in (one, two)]
    assert [record["n_devices"] for record in records] == [1, 2]
    for a, b in zip(*(record["evaluations"] for record in records), strict=True):
        assert (a["step"], a["dev"]) == (b["step"], b["dev"]) and b["loss"] == pytest.approx(a["loss"], rel=1e-6)
    weights = [load_file(path / "seed_1/checkpoint-best/model.safetensors") for path in (one, two)]
    for name, expected in weights[0].items():
        # As in test_distribute: the loss does not depend on the biases of keys, span head and last LayerNorm.
        if name.endswith((".key.bias", "qa_outputs.bias", "output.LayerNorm.bias")):
            continue
        np.testing.assert_allclose(weights[1][name], expected, atol=1e-6, rtol=0, err_msg=name)


def test_a_killed_process_ends_all_and_the_same_command_goes_on(place, torchrun, train, tmp_path):
    command = train(tmp_path / "run", 2)
    done = torchrun(*command, fault=("1", "pytorch_modeling:Trainer.step", "5", "kill"))
    assert done.returncode != 0 and "exitcode  : -9" in done.stderr, done.stderr[-3000:]
    # Whichever comes first: the broken connection, or torchrun's signal.
    assert re.search("^error: another process of this run has ended|^interrupted;", done.stderr, re.M)
    done = torchrun(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "seed 1: goes on after step" in done.stdout
    done = torchrun(*train(place[0] / "undisturbed", 2))
    assert done.returncode == 0, done.stderr[-3000:]
    assert digest(tmp_path / "run") == digest(place[0] / "undisturbed")


def test_processes_that_torchrun_starts_once_more_go_on(place, torchrun, train, tmp_path):
    done = torchrun(
        *train(tmp_path / "run", 2, "--overwrite_output_dir"),
        fault=("1", "pytorch_modeling:Trainer.step", "5", "kill"),
        launcher=("--max_restarts", "1"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "exitcode: -9" in done.stderr and "seed 1: goes on after step" in done.stdout
    assert json.loads((tmp_path / "run/seed_1/record.json").read_text(encoding="utf-8"))["status"] == "finished"


def test_a_signal_to_one_process_stops_all_at_a_step_that_one_process_goes_on_from(torchrun, train, tmp_path, capsys):
    output = tmp_path / "run"
    done = torchrun(*train(output, 2), fault=("1", "pytorch_modeling:Trainer.step", "3", "terminate"))
    assert done.returncode != 0, done.stderr[-3000:]
    assert done.stderr.count("interrupted; the same command goes on (") == 1, done.stderr[-3000:]
    assert json.loads((output / "seed_1/record.json").read_text(encoding="utf-8"))["status"] == "interrupted"
    assert main(train(output, 1, "--per_device_train_batch_size", "3")) == 2
    assert "steps of 2 windows there, 3 here" in capsys.readouterr().err
    assert main(train(output, 1)) == 0 and not torch.backends.cuda.matmul.allow_tf32
    printed = capsys.readouterr().out
    assert "goes on after step 3/6" in printed and "begun with 2 devices, now 1" in printed


def test_a_sharded_run_goes_on_in_one_process(torchrun, train, tmp_path, capsys):
    fault = ("1", "pytorch_modeling:Trainer.step", "3", "terminate")
    done = torchrun(*train(tmp_path / "run", 2, "--fsdp"), fault=fault)
    assert done.returncode != 0, done.stderr[-3000:]
    assert main(train(tmp_path / "run", 1)) == 0
    assert "goes on after step 3/6" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--learning_rate", "x"], "--learning_rate"),
        (
            ["--gradient_checkpointing", "2"],
            "/model (from scratch)); use at most 1",
        ),
    ],
    ids=["before the processes meet", "after"],
)
def test_mistake_is_said_once_and_ends_all(torchrun, train, tmp_path, more, message):
    done = torchrun(*train(tmp_path / "run", 2, *more))
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and "exitcode  : 2" in done.stderr, done.stderr[-3000:]
    assert len(lines) == 1 and message in lines[0], done.stderr[-3000:]
    assert not (tmp_path / "run").exists()


def test_two_processes_pretrain_as_one(torchrun, place, tmp_path):
    """What is hidden of a window depends on seed, epoch and window, whoever computes it."""
    texts = tmp_path / "texts.txt"
    texts.write_text("小猫住在北京。小狗住在上海。\n张三喜欢苹果，李四喜欢香蕉。\n王五有三本书，赵六有九支笔。\n")

    def command(output, n_processes):
        return [
            "pretrain", "--text_file", str(texts), "--validation_file", str(texts), "--output_dir", str(output),
            "--max_seq_length", "32", "--per_device_train_batch_size", str(2 // n_processes), "--seeds", "1",
            "--num_train_epochs", "2", "--learning_rate", "1e-2", "--report_to", "none", *_still(place),
            "--feature_cache_dir", "None",
        ]  # fmt: skip

    assert main(command(tmp_path / "one", 1)) == 0
    done = torchrun(*command(tmp_path / "two", 2))
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_file(tmp_path / name / "seed_1/checkpoint-best/model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, atol=2e-5, err_msg=name)


def test_other_commands_are_no_work_for_several(monkeypatch, capsys):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main(["tasks"]) == 2
    assert capsys.readouterr().err == "error: torchrun is for train and pretrain; start tasks without it\n"
