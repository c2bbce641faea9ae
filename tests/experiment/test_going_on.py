"""When an unfinished run goes on, and under which other options, names of its inputs and lost files."""

from __future__ import annotations

import json
import shutil
import threading
from unittest.mock import Mock

import pytest
import yaml

from experiment.cli import main
from experiment.options.flags import TrainOptions
from experiment.options.recipe import resolve_recipe, task_of
from experiment.training import rundir
from preprocess.base.errors import UsageError


def _record(run_directory, seed=1):
    return json.loads((run_directory / f"seed_{seed}" / "record.json").read_text())


# --- options that are free ---


@pytest.mark.parametrize("profiled", [("--profile",), ()], ids=["begun with a profile", "begun without"])
def test_run_goes_on_whether_a_profile_is_wanted_now_or_was(profiled, interrupt, corpus, flags, capsys):
    run = interrupt(3, *profiled)
    assert main(flags(corpus, run, "--seeds", "1", *(() if profiled else ("--profile",)))) == 0
    assert "seed 1: goes on after step 3/6" in capsys.readouterr().out
    assert _record(run)["status"] == "finished"


def test_hint_of_an_interrupted_run_keeps_its_progress(interrupt, corpus, flags, capsys):
    """The very same command would delete it."""
    run = interrupt(3, "--overwrite_output_dir")
    assert "interrupted; the same command goes on (without --overwrite_output_dir)" in capsys.readouterr().err
    assert main(flags(corpus, run, "--seeds", "1")) == 0
    assert "seed 1: goes on after step 3/6" in capsys.readouterr().out


def test_run_that_was_out_of_memory_in_evaluation_goes_on_as_it_is_told_to(interrupted, corpus, flags, capsys):
    """And on another device, as a GPU's memory may be needed by others."""
    more = ("--per_device_eval_batch_size", "1", "--device", "cpu")
    assert main(flags(corpus, interrupted, "--seeds", "1", *more)) == 0
    assert "seed 1: goes on after step 3/6" in capsys.readouterr().out


def test_run_that_goes_on_on_another_device_says_so(interrupt, corpus, flags, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("pytorch_modeling.device_facts", lambda _: {"device": "a GPU", "peak_bytes": 1})
        run = interrupt(3)
    assert main(flags(corpus, run, "--seeds", "1")) == 0
    assert "seed 1: begun on a GPU, now on CPU, " in capsys.readouterr().out


def test_hint_of_an_interrupted_pretraining_keeps_its_progress(monkeypatch, capsys):
    monkeypatch.setattr("experiment.cli._carry_out", Mock(side_effect=KeyboardInterrupt))
    assert main(["pretrain", "--overwrite_output_dir"]) == 130
    assert "the same command goes on (without --overwrite_output_dir)" in capsys.readouterr().err


def test_hint_of_an_interrupted_grid_names_no_option_that_it_has_not(monkeypatch, capsys):
    monkeypatch.setattr("experiment.cli._carry_out", Mock(side_effect=KeyboardInterrupt))
    assert main(["grid"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on with the seeds that are not finished\n"


# --- other names of the same inputs ---


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
    arguments = flags(corpus, trained, "--seeds", "3", "--train_file", str(other))
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


# --- without a Record ---


def test_seed_whose_record_was_damaged_and_deleted_goes_on(interrupted, corpus, flags, capsys):
    """As the message about the damage says to do; a training is worth more than its Record."""
    path = interrupted / "seed_1" / "record.json"
    path.write_text("")
    assert main(flags(corpus, interrupted, "--seeds", "1")) == 2
    assert f"{path}: " in (error := capsys.readouterr().err) and "delete it and run again" in error
    path.unlink()
    assert main(flags(corpus, interrupted, "--seeds", "1")) == 0
    assert "seed 1: goes on after step 3/6" in capsys.readouterr().out
    assert _record(interrupted)["status"] == "finished"


def test_seed_without_a_record_does_not_go_on_on_other_data_or_in_other_steps(interrupted, corpus, flags, capsys):
    (interrupted / "seed_1" / "record.json").unlink()
    kept = sorted(interrupted.glob("seed_1/resume/*/*"))
    assert main(flags(corpus, interrupted, "--seeds", "1", "--per_device_train_batch_size", "3")) == 2
    assert "steps of 2 windows there, 3 here" in capsys.readouterr().err
    corpus.data.write_text(corpus.data.read_text().replace("小狗", "小羊"))
    assert main(flags(corpus, interrupted, "--seeds", "1")) == 2
    assert "seed 1 was trained on another dev_file, train_file; use another" in capsys.readouterr().err
    assert kept and sorted(interrupted.glob("seed_1/resume/*/*")) == kept


def test_overwriting_takes_nothing_over_from_a_seed_without_a_record(interrupted, corpus, flags, capsys):
    (interrupted / "seed_1" / "record.json").unlink()
    assert main(flags(corpus, interrupted, "--seeds", "1", "--overwrite_output_dir")) == 0
    assert "goes on after" not in capsys.readouterr().out
    assert not (interrupted / "seed_1" / "resume").exists()


# --- commands that start together ---


@pytest.fixture
def recipe(corpus, tmp_path):
    def of(**more):
        options = TrainOptions(task="cmrc2018", output_dir=tmp_path / "run", **more)
        return resolve_recipe(options, task_of(options), None)

    return of


def test_options_name_the_seeds_of_commands_that_start_together(recipe, tmp_path, monkeypatch):
    other = threading.Thread(target=rundir.prepare, args=(recipe(seeds=(2,)),))
    write = rundir.write_text

    def late(path, text):
        """Write, when the other command has had its time to come between."""
        if not other.is_alive():
            other.start()
            other.join(0.3)
        write(path, text)

    monkeypatch.setattr(rundir, "write_text", late)
    rundir.prepare(recipe(seeds=(1,)))
    other.join(60)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["seeds"] == [1, 2]


def test_commands_that_start_together_with_other_options_are_no_one_run(recipe, tmp_path):
    rundir.prepare(recipe(seeds=(1,)))
    said = r"other options \(learning_rate 3e-05 there, 0.001 here\); give those again, or another directory$"
    with pytest.raises(UsageError, match=said):
        rundir.prepare(recipe(seeds=(2,), learning_rate=1e-3))
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["seeds"] == [1]
