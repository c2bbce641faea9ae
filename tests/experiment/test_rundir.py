"""What of a directory is a run's, when a run goes on there, and what --overwrite_output_dir deletes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml

import pytorch_modeling
from experiment.cli import main
from experiment.training.record import run_records
from preprocess.base.errors import UsageError


def _record(run_directory, seed=1):
    return json.loads((run_directory / f"seed_{seed}" / "record.json").read_text())


def _listed(directory):
    """Everything in a directory, links not followed, with what would change if it was written anew."""
    return {path: path.lstat().st_mtime_ns for path in directory.rglob("*")}


@pytest.fixture
def trained(corpus, flags, tmp_path):
    assert main(flags(corpus, tmp_path / "run", "--seeds", "1", "2", "--num_train_epochs", "1")) == 0
    return tmp_path / "run"


@pytest.fixture
def interrupted(corpus, flags, tmp_path, monkeypatch):
    """A run whose only seed has been interrupted after its third step."""
    step, n_steps = pytorch_modeling.Trainer.step, []

    def dying(self, batches):
        step(self, batches)
        n_steps.append(1)
        if len(n_steps) == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(pytorch_modeling.Trainer, "step", dying)
        assert main(flags(corpus, tmp_path / "run", "--seeds", "1")) == 130
    return tmp_path / "run"


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
    more = ("--seeds", "1", "--num_train_epochs", "1", "--overwrite_output_dir")
    assert main(flags(corpus, trained, *more)) == 0
    assert not (trained / "seed_2").exists() and (trained / "seed_1" / "record.json").exists()
    kept = _listed(trained)
    assert all(kept[path] == time for path, time in copies.items() if path.parent != trained or path.is_dir())


def test_seed_over_the_copy_of_another_one_is_refused(trained, corpus, flags, capsys):
    shutil.copytree(trained / "seed_1", trained / "seed_7")
    before = _listed(trained)
    for more in ((), ("--overwrite_output_dir",)):
        assert main(flags(corpus, trained, "--seeds", "7", "--num_train_epochs", "1", *more)) == 2
        assert "seed_7: holds the Record of seed 1, not of seed 7; move it away" in capsys.readouterr().err
    assert _listed(trained) == before


def test_link_to_another_runs_seed_is_neither_deleted_nor_trained_in(trained, corpus, flags, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    shutil.rmtree(trained / "seed_1")
    (trained / "seed_1").symlink_to(other / "seed_1")
    before = _listed(other)
    assert main(flags(corpus, trained, "--seeds", "2", "--num_train_epochs", "1", "--overwrite_output_dir")) == 0
    assert _listed(other) == before and (trained / "seed_1").is_symlink()
    assert [record.seed for record in run_records(trained)] == [2]
    capsys.readouterr()
    for more in ((), ("--overwrite_output_dir",)):
        assert main(flags(corpus, trained, "--seeds", "1", "--num_train_epochs", "1", *more)) == 2
        assert f"seed_1: a link to {other / 'seed_1'}" in capsys.readouterr().err
    assert _listed(other) == before


def test_links_in_a_seed_are_deleted_and_what_they_lead_to_is_not(trained, corpus, flags, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(trained / "seed_1" / "checkpoint-best", elsewhere)
    (trained / "seed_1" / "checkpoint-best").symlink_to(elsewhere)
    before = _listed(elsewhere)
    assert main(flags(corpus, trained, "--seeds", "1", "--num_train_epochs", "1", "--overwrite_output_dir")) == 0
    assert _listed(elsewhere) == before
    assert not (trained / "seed_1" / "checkpoint-best").is_symlink()


def test_directory_without_a_seed_of_its_own_is_no_run(trained, tmp_path):
    (tmp_path / "copies").mkdir()
    shutil.copytree(trained / "seed_1", tmp_path / "copies" / "seed_1_backup")
    with pytest.raises(UsageError, match="not a run directory"):
        run_records(tmp_path / "copies")


# --- going on under other names ---


def test_run_goes_on_with_other_names_of_the_same_inputs(interrupted, corpus, flags, tmp_path, capsys):
    shutil.move(corpus.data, tmp_path / "moved.json")
    shutil.move(corpus.model, tmp_path / "moved")
    arguments = flags(corpus, interrupted, "--seeds", "1", "--tokenizer_name", str(tmp_path / "moved"))
    arguments = [a.replace(str(corpus.data), str(tmp_path / "moved.json")) for a in arguments]
    arguments = [a.replace(str(corpus.model), str(tmp_path / "moved")) for a in arguments]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "seed 1: goes on after step 3/6" in out
    assert f"train_file '{corpus.data}' there, '{tmp_path / 'moved.json'}' here" in out
    assert yaml.safe_load((interrupted / "config.yaml").read_text())["train_file"] == str(tmp_path / "moved.json")


def test_run_does_not_go_on_with_other_content_of_the_same_name_or_another(
    interrupted, corpus, flags, tmp_path, capsys
):
    other = tmp_path / "other.json"
    other.write_text(corpus.data.read_text().replace("小狗", "小羊"))
    arguments = flags(corpus, interrupted, "--seeds", "1")
    at = arguments.index("--train_file") + 1
    assert main([*arguments[:at], str(other), *arguments[at + 1 :]]) == 2
    assert "seed 1 was trained on another train_file; use another directory" in capsys.readouterr().err
    assert main([*arguments, "--test_file", str(other)]) == 2
    assert "seed 1 was trained without a test_file; use another directory" in capsys.readouterr().err


def test_more_seeds_are_never_averaged_with_those_of_other_data(trained, corpus, flags, tmp_path, capsys):
    other = tmp_path / "other.json"
    other.write_text(corpus.data.read_text().replace("小狗", "小羊"))
    arguments = flags(corpus, trained, "--num_train_epochs", "1", "--seeds", "3", "--train_file", str(other))
    assert main(arguments) == 2
    assert "seed 1 was trained on another train_file" in capsys.readouterr().err
    assert not (trained / "seed_3").exists()


def test_moved_run_goes_on(interrupted, corpus, flags, tmp_path, capsys):
    shutil.move(interrupted, tmp_path / "elsewhere")
    assert main(flags(corpus, tmp_path / "elsewhere", "--seeds", "1")) == 0
    assert "seed 1: goes on after step 3/6" in capsys.readouterr().out
    assert _record(tmp_path / "elsewhere")["status"] == "finished"


def test_training_checkpoints_of_another_form_are_named_and_kept(interrupted, corpus, flags, monkeypatch, capsys):
    before = {path: path.read_bytes() for path in interrupted.glob("seed_1/resume/*/*.safetensors")}
    monkeypatch.setattr("experiment.training.saving._LAYOUT", 3)
    assert main(flags(corpus, interrupted, "--seeds", "1")) == 2
    assert "have the form 2 and this version of the toolkit reads 3" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


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
    arguments = flags(corpus, trained, "--seeds", "1", "--num_train_epochs", "1", "--overwrite_output_dir")
    if isinstance(error, OSError):
        assert main(arguments) == 2
    else:
        with pytest.raises(type(error)):
            main(arguments)
    assert _listed(trained) == before


def test_a_rehearsal_moves_no_number(trained, corpus, flags):
    before = _record(trained)["evaluations"], (trained / "seed_1/checkpoint-best/model.safetensors").read_bytes()
    assert main(flags(corpus, trained, "--seeds", "1", "--num_train_epochs", "1", "--overwrite_output_dir")) == 0
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
