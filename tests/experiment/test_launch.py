"""What the launcher has told a process."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from experiment import launch
from experiment.launch import Launch, launched, n_threads, program

ROOT = Path(__file__).resolve().parents[2]
#: Who else may look into the environment, and why.
READERS = {
    "pytorch_modeling/distribute.py",  # torch's rendezvous, and which GPU is this process's
    "pytorch_modeling/model.py",  # cuBLAS takes its workspace from there alone
    "tf_modeling/__init__.py",  # Keras's backend
    "tf_modeling/distribute.py",  # TensorFlow's cluster
}


def test_a_process_without_a_launcher_is_alone(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("RANK", "3")  # of something else
    assert launched() == Launch(rank=0, size=1, restart_count=0)


def test_torchrun_tells_rank_size_and_restarts(monkeypatch):
    told = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "4", "TORCHELASTIC_RESTART_COUNT": "2"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert launched() == Launch(rank=1, size=4, restart_count=2)


def test_one_module_reads_the_environment_for_all_of_experiment():
    readers = set()
    for package in ("experiment", "tasks", "preprocess", "pytorch_modeling", "tf_modeling"):
        for path in (ROOT / package).rglob("*.py"):
            names = {
                node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            }
            if names & {"environ", "getenv"}:
                readers.add(path.relative_to(ROOT).as_posix())
    assert readers == {"experiment/launch.py", *READERS}


@pytest.mark.parametrize(
    ("called", "name"),
    [("run_mrc.py", "run_mrc.py"), ("/usr/bin/chinese-mrc", "chinese-mrc"), ("/usr/bin/pytest", "run_mrc.py")],
)
def test_the_program_has_the_name_it_was_called_by(called, name, monkeypatch):
    monkeypatch.setattr(sys, "argv", [called])
    assert program() == name


def test_threads_are_those_asked_for_else_what_this_process_may_use(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert n_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(launch.os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(launch, "_QUOTA", tmp_path / "cpu.max")
    assert n_threads() == 8
    for limit, expected in (("max 100000", 8), ("250000 100000", 3), ("1600000 100000", 8)):
        (tmp_path / "cpu.max").write_text(limit + "\n")
        assert n_threads() == expected, "a container's limit holds, however many processors the machine has"
