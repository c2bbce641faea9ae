"""Where results go is looked at before anything else: nothing is computed for a place that can't be written."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from experiment.cli import main
from experiment.commands import COMMANDS
from experiment.io.outputs import check_directory, check_file, check_new_directory
from preprocess.base.errors import UsageError

#: command -> flags without any file that is there, and the flag of its output.
WRITERS = {
    "predict": ("--task cmrc2018 --model_name_or_path ./no/model --test_file no.json", "--output_dir"),
    "evaluate": ("--task cmrc2018 --data_file no.json --predictions no.json", "--output"),
    "stats": ("--task cmrc2018 --data_file no.json --tokenizer_name ./no", "--histogram"),
    "leaderboard": ("no_run", "--output"),
    "inspect": ("--model_name_or_path ./no/model --inputs no.npz", "--output"),
    "convert": ("--from ./no/model --to native", "--output"),
    "parity": ("--task cmrc2018 --model_name_or_path ./no/model", "--json"),
    "export": ("--model_name_or_path ./no/model", "--output"),
    "plan": ("--task cmrc2018 --model_name_or_path ./no/model", "--json"),
    "validate": ("--task cmrc2018 no.json", "--output"),
    "report": ("no_run", "--output"),
    "card": ("no_run", "--output"),
    "ensemble": ("no_run --task cmrc2018 --test_file no.json", "--output_dir"),
    "submit": ("no_run --for clue --data_file no.json", "--output"),
    "ask_llm": (
        "--task cmrc2018 --test_file no.json --base_url http://localhost:1/v1 --model x",
        "--output_dir",
    ),
    "grid": ("--models no=./no/model --tasks cmrc2018 --seeds 1", "--output_dir"),
    "quantize": ("./no/model --check no.json", "--output"),
    "prune_vocabulary": ("./no/model --data_files no.json", "--output"),
    "examples": ("", "--output"),
    "split": ("--task cmrc2018 --data_file no.json", "--output_dir"),
}
#: `train` and `pretrain` have a check of their own (test_train.py), by which the trials of `search` and the cells of
#: `ablate` are trained, too; `download` computes nothing; `calibrate` writes beside the model; the others print.
OTHERS = {
    *("train", "pretrain", "search", "ablate", "calibrate", "download"),
    *("tasks", "models", "cache", "completion", "ask", "serve"),
}


def test_every_command_is_thought_of():
    assert {*WRITERS, *OTHERS} == {*COMMANDS}


@pytest.mark.parametrize("command", WRITERS)
def test_place_below_a_file_is_refused_before_any_input_is_looked_at(command, tmp_path, monkeypatch, capsys):
    """That the error does not name the inputs, none of which exists, shows what is looked at first."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    flags, output = WRITERS[command]
    assert main([command, *flags.split(), output, "file/out.png"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error == f"error: {output} file/out.png: file is a file, not a directory; give another place"
    assert Path("file").read_text() == "mine" and os.listdir() == ["file"]


@pytest.fixture
def full_disk(monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)


@pytest.mark.parametrize("check", [check_file, check_directory, check_new_directory])
def test_full_or_read_only_disk_is_noticed(check, tmp_path, full_disk):
    with pytest.raises(UsageError, match=r"--x .*/new/out: can't be written \(No space left on device\)"):
        check("--x", tmp_path / "new" / "out")


@pytest.mark.parametrize("check", [check_file, check_directory, check_new_directory])
def test_looking_leaves_nothing_behind(check, tmp_path):
    check("--x", tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (check_file, "a directory stands there; give the name of a file"),
        (check_new_directory, "exists and is not empty; give a new directory"),
    ],
)
def test_directory_with_files_is_neither_a_file_nor_new(check, expected, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match=f"--x {tmp_path}: {expected}"):
        check("--x", tmp_path)


def test_directory_may_hold_other_files_but_not_directories_of_their_names(tmp_path):
    (tmp_path / "mine").write_text("mine")
    check_directory("--x", tmp_path, ("predictions.json",))
    (tmp_path / "predictions.json").mkdir()
    with pytest.raises(UsageError, match=r"predictions\.json in it is a directory"):
        check_directory("--x", tmp_path, ("predictions.json",))


def test_file_where_a_directory_belongs_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="a file stands there; give a directory"):
        check_directory("--x", tmp_path / "file")


def test_pipe_is_left_alone_and_the_target_of_a_link_is_looked_at(tmp_path, full_disk):
    os.mkfifo(tmp_path / "pipe")
    check_file("--x", tmp_path / "pipe")  # to open it would wait for a reader
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    with pytest.raises(UsageError, match="can't be written"):
        check_file("--x", tmp_path / "link")
    check_file("--x", None)
