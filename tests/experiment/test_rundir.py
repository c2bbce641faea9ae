"""What of a directory is a run's, when a run goes on there, and what --overwrite_output_dir deletes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml

import pytorch_modeling
from experiment.cli import main
from experiment.training.record import run_records
from experiment.training.rundir import clear
from preprocess.base.errors import UsageError
from preprocess.base.files import locked
from tasks import cmrc2018


def _record(run_directory, seed=1):
    return json.loads((run_directory / f"seed_{seed}" / "record.json").read_text())


def _listed(directory):
    """Everything in a directory, links not followed, with what would change if it was written anew."""
    return {path: path.lstat().st_mtime_ns for path in directory.rglob("*")}


# --- names that look like a run's ---


def test_copies_of_seeds_are_no_seeds(trained, corpus, flags, capsys):
    for name in ("seed_1_backup", "seed_01", "seed_", "seed_7", "seed_-1", "backup_seed_1"):
        shutil.copytree(trained / "seed_1", trained / name)
    (trained / "seed_8").mkdir()
    (trained / "seed_1_old").mkdir()
    (trained / "seed_1_old" / "record.json").write_text("of another program")
    assert [record.seed for record in run_records(trained)] == [1, 2]
    copies = {
        path: files
        for path, files in _listed(trained).items()
        if path.parts[len(trained.parts)] not in ("seed_1", "seed_2")
    }
    assert main(["leaderboard", str(trained)]) == 0
    assert "| 2 |" in capsys.readouterr().out.splitlines()[-1]
    more = ("--seeds", "1", "--overwrite_output_dir")
    assert main(flags(corpus, trained, *more)) == 0
    assert not (trained / "seed_2").exists() and (trained / "seed_1" / "record.json").exists()
    kept = _listed(trained)
    assert all(kept[path] == time for path, time in copies.items() if path.parent != trained or path.is_dir())


def test_seed_over_the_copy_of_another_one_is_refused(trained, corpus, flags, capsys):
    shutil.copytree(trained / "seed_1", trained / "seed_7")
    before = _listed(trained)
    for more in ((), ("--overwrite_output_dir",)):
        assert main(flags(corpus, trained, "--seeds", "7", *more)) == 2
        assert "seed_7: holds the Record of seed 1, not of seed 7; move it away" in capsys.readouterr().err
    assert _listed(trained) == before


def test_link_to_another_runs_seed_is_neither_deleted_nor_trained_in(trained, corpus, flags, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    shutil.rmtree(trained / "seed_1")
    (trained / "seed_1").symlink_to(other / "seed_1")
    before = _listed(other)
    assert main(flags(corpus, trained, "--seeds", "2", "--overwrite_output_dir")) == 0
    assert _listed(other) == before and (trained / "seed_1").is_symlink()
    assert [record.seed for record in run_records(trained)] == [2]
    capsys.readouterr()
    for more in ((), ("--overwrite_output_dir",)):
        assert main(flags(corpus, trained, "--seeds", "1", *more)) == 2
        assert f"seed_1: a link to {other / 'seed_1'}" in capsys.readouterr().err
    assert _listed(other) == before


def test_links_in_a_seed_are_deleted_and_what_they_lead_to_is_not(trained, corpus, flags, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(trained / "seed_1" / "checkpoint-best", elsewhere)
    (trained / "seed_1" / "checkpoint-best").symlink_to(elsewhere)
    before = _listed(elsewhere)
    assert main(flags(corpus, trained, "--seeds", "1", "--overwrite_output_dir")) == 0
    assert _listed(elsewhere) == before
    assert not (trained / "seed_1" / "checkpoint-best").is_symlink()


def test_directory_without_a_seed_of_its_own_is_no_run(trained, tmp_path):
    (tmp_path / "copies").mkdir()
    shutil.copytree(trained / "seed_1", tmp_path / "copies" / "seed_1_backup")
    with pytest.raises(UsageError, match="not a run directory"):
        run_records(tmp_path / "copies")


# --- overwriting ---


FAULTS = {
    "the model can't be built": (
        "pytorch_modeling.build_model",
        RuntimeError("numel: integer multiplication overflow"),
    ),
    "the trainer can't": ("pytorch_modeling.Trainer.__init__", RuntimeError("no such optimizer")),
    "it can't compute": ("pytorch_modeling.predict", IndexError("index out of range in self")),
    "no such device": ("pytorch_modeling.devices", OSError("no driver")),
    "options can't be written": ("yaml.safe_dump", yaml.YAMLError("no representer")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_can_be_known_to_fail_fails_before_anything_is_deleted(fault, trained, corpus, flags, monkeypatch):
    place, error = FAULTS[fault]

    def failing(*_arguments, **_named):
        raise error

    before = _listed(trained)
    monkeypatch.setattr(place, failing)
    arguments = flags(corpus, trained, "--seeds", "1", "--overwrite_output_dir")
    if isinstance(error, OSError):
        assert main(arguments) == 2
    else:
        with pytest.raises(type(error)):
            main(arguments)
    assert _listed(trained) == before


def test_a_rehearsal_moves_no_number(trained, corpus, flags):
    before = _record(trained)["evaluations"], (trained / "seed_1/checkpoint-best/model.safetensors").read_bytes()
    assert main(flags(corpus, trained, "--seeds", "1", "--overwrite_output_dir")) == 0
    after = _record(trained)["evaluations"], (trained / "seed_1/checkpoint-best/model.safetensors").read_bytes()
    assert after == before


def test_path_that_is_not_utf8_is_refused_before_anything_is_deleted(trained, corpus, flags, tmp_path, capsys):
    data = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + "数据.json".encode("gbk")))
    try:
        shutil.copy(corpus.data, data)
    except OSError as error:
        if error.errno != errno.EILSEQ:  # macOS has no such names
            raise
        pytest.skip("this file system has UTF-8 names only")
    before = _listed(trained)
    assert main(flags(corpus, trained, "--overwrite_output_dir", "--train_file", str(data))) == 2
    assert "is not UTF-8" in capsys.readouterr().err
    assert _listed(trained) == before


# --- runs that are there ---


def test_finished_run_is_refused_and_untouched(trained, corpus, flags, capsys):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    assert main(flags(corpus, trained)) == 2
    assert "holds a finished run; use --overwrite_output_dir" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("*")}


def test_overwriting_starts_anew_and_keeps_what_is_not_of_the_run(trained, corpus, flags):
    (trained / "seed_1" / "predictions_test.json").write_text("of the run")
    (trained / "notes").mkdir()
    mine = [trained / "notes" / "mine.txt", trained / "seed_1" / "mine.txt"]
    for path in mine:
        path.write_text("mine")
    assert main(flags(corpus, trained, "--overwrite_output_dir", "--seeds", "1")) == 0
    assert not (trained / "seed_1" / "predictions_test.json").exists() and not (trained / "seed_2").exists()
    assert [path.read_text() for path in mine] == ["mine", "mine"]
    assert yaml.safe_load((trained / "config.yaml").read_text())["overwrite_output_dir"] is False


@pytest.mark.parametrize("task", ["cjrc", "squad_v2"])
def test_nothing_of_a_seed_is_taken_for_a_file_of_the_users(task, corpus, flags, tmp_path):
    more = ("--task", task, "--seeds", "1", "--test_file", str(corpus.data))
    assert main(flags(corpus, tmp_path / "run", *more)) == 0
    clear(tmp_path / "run" / "seed_1")
    assert list((tmp_path / "run" / "seed_1").iterdir()) == []


def test_run_that_another_process_trains_is_not_overwritten(trained, corpus, flags, capsys):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    with locked(trained / "seed_2"):
        assert main(flags(corpus, trained, "--overwrite_output_dir")) == 2
    assert "seed_2: another process is training this seed; wait for it" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("*")}


def test_what_torchrun_starts_once_more_does_not_overwrite_itself(corpus, flags, tmp_path, monkeypatch, capsys):
    step = pytorch_modeling.Trainer.step
    terminated = Mock(side_effect=[None, lambda: signal.raise_signal(signal.SIGTERM), *[None] * 20])

    def dying(self, batches):
        step(self, batches)
        if (die := terminated()) is not None:
            die()

    monkeypatch.setattr(pytorch_modeling.Trainer, "step", dying)
    command = flags(corpus, tmp_path / "run", "--seeds", "1", "--overwrite_output_dir")
    assert main(command) == 130
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RESTART_COUNT": "1"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    assert main(command) == 0
    assert "goes on after step 2/6" in capsys.readouterr().out


def test_written_options_repeat_the_seeds_of_all_commands(trained, corpus, flags):
    assert main([*flags(corpus, trained), "--seeds", "2", "3"]) == 0
    assert yaml.safe_load((trained / "config.yaml").read_text())["seeds"] == [1, 2, 3]


def test_mistake_does_not_delete_the_run_it_would_overwrite(trained, corpus, flags, capsys):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    assert main(flags(corpus, trained, "--overwrite_output_dir", "--max_seq_length", "8")) == 2
    assert "leaves no room" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("*")}


def test_run_never_overwrites_its_own_checkpoint(trained, corpus, flags, capsys):
    start = str(trained / "seed_1" / "checkpoint-best")
    arguments = flags(corpus, trained, "--overwrite_output_dir", "--model_name_or_path", start)
    at = arguments.index("--config_name")
    del arguments[at : at + 2]
    assert main(arguments) == 2
    assert "lies in --output_dir" in capsys.readouterr().err
    assert Path(start, "model.safetensors").exists()


def test_foreign_config_file_does_not_make_a_run(corpus, flags, tmp_path, capsys):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "config.yaml").write_text("name: my app")
    assert main(flags(corpus, tmp_path / "app", "--overwrite_output_dir")) == 2
    assert "holds files that are not a run" in capsys.readouterr().err
    assert (tmp_path / "app" / "config.yaml").read_text() == "name: my app"


def test_seeds_of_other_data_are_never_averaged(trained, corpus, flags, capsys):
    corpus.data.write_text(corpus.data.read_text().replace("小狗", "小羊"))
    assert main([*flags(corpus, trained), "--seeds", "1", "2", "3"]) == 2
    assert "seed 1 was trained on another dev_file, train_file" in capsys.readouterr().err


def test_seed_that_another_process_trains_is_left_alone(trained, corpus, flags, capsys):
    (trained / "seed_3").mkdir()
    with locked(trained / "seed_3"):
        assert main([*flags(corpus, trained), "--seeds", "3"]) == 2
    assert "another process is training this seed" in capsys.readouterr().err


def test_directory_that_is_no_run_is_never_deleted(corpus, flags, tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    assert main(flags(corpus, tmp_path / "thesis", "--overwrite_output_dir")) == 2
    assert "holds files that are not a run" in capsys.readouterr().err
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "x"


def test_more_seeds_keep_those_that_are_finished(trained, corpus, flags):
    weights = (trained / "seed_1/checkpoint-best/model.safetensors").stat().st_mtime_ns
    assert main([*flags(corpus, trained), "--seeds", "1", "2", "3"]) == 0
    assert (trained / "seed_1/checkpoint-best/model.safetensors").stat().st_mtime_ns == weights
    assert _record(trained, seed=3)["status"] == "finished"


def test_unfinished_run_with_other_options_is_refused(trained, corpus, flags, capsys):
    record = _record(trained)
    (trained / "seed_1" / "record.json").write_text(json.dumps({**record, "status": "failed"}))
    assert main([*flags(corpus, trained), "--learning_rate", "0.5"]) == 2
    assert "learning_rate 0.001 there, 0.5 here" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "pretrain"])
def test_a_place_that_can_not_be_had_is_refused_before_anything_is_looked_for(command, corpus, tmp_path, capsys):
    """Here there are no texts, and no model either: of all that is wrong the place is said first."""
    options = ["--model_name_or_path", str(tmp_path / "nothing"), "--train_file", str(tmp_path / "no.json")]
    assert main([command, "--task", "cmrc2018", *options, "--output_dir", str(corpus.data)]) == 2
    assert f"--output_dir {corpus.data}: a file stands there" in capsys.readouterr().err


@pytest.mark.parametrize("read", ["experiment.training.prepare.read_all", "experiment.training.pretraining._read"])
def test_files_are_not_read_for_a_run_that_has_no_place(read, corpus, flags, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    monkeypatch.setattr(read, lambda *_, **__: pytest.fail("files were read"))
    command = flags(corpus, tmp_path / "mine")
    if "pretraining" in read:
        model = ["--config_name", str(corpus.model), "--max_seq_length", "64"]
        command = ["pretrain", "--text_file", str(corpus.data), *model, "--output_dir", str(tmp_path / "mine")]
    assert main(command) == 2
    assert "holds files that are not a run" in capsys.readouterr().err


def _of_version(run, version):
    path = run / "seed_1" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task_version": version}))


def test_seeds_of_another_version_of_the_task_are_not_averaged(trained, corpus, flags, capsys):
    _of_version(trained, "0")
    assert main(flags(corpus, trained, "--seeds", "1", "2", "3")) == 2
    assert "seed 1 is of version 0 of the task, here 1; use another directory" in capsys.readouterr().err


def test_a_seed_of_another_version_of_the_task_does_not_go_on(interrupted, corpus, flags, monkeypatch, capsys):
    _of_version(interrupted, "0")
    assert main(flags(corpus, interrupted, "--seeds", "1")) == 2
    assert "seed 1 is of version 0 of the task, here 1; use another directory" in capsys.readouterr().err
    (interrupted / "seed_1" / "record.json").unlink()  # the training checkpoint knows it, too
    monkeypatch.setattr(cmrc2018, "TASK", replace(cmrc2018.TASK, version="2"))
    assert main(flags(corpus, interrupted, "--seeds", "1")) == 2
    assert "seed 1 is of version 1 of the task, here 2; use another" in capsys.readouterr().err
