"""The train command: what a run directory holds, that it can be repeated, taken up again, and never lies."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiment.cli import main
from experiment.options.flags import TrainOptions
from experiment.options.recipe import resolve_recipe
from experiment.training.record import Record
from experiment.training.rundir import _check_inputs_outside
from preprocess.base.errors import UsageError
from tasks.core.discovery import get_task

ROOT = Path(__file__).resolve().parents[2]


def _record(run_directory, seed=1):
    return json.loads((run_directory / f"seed_{seed}" / "record.json").read_text())


def _hidden_files(directory):
    return [path.name for path in directory.rglob(".*")]


@pytest.fixture
def trained(corpus, flags, tmp_path):
    assert main(flags(corpus, tmp_path / "run")) == 0
    return tmp_path / "run"


def test_run_directory_holds_everything(trained):
    names = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    seed = {"record.json", "predictions_dev.json", "nbest_predictions_dev.json", "scores_dev.json"}
    seed |= {
        f"checkpoint-best/{name}"
        for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "mrc_settings.json")
    }
    expected = {"config.yaml", "data_report.json", "run.log", "leaderboard.md"}
    expected |= {f"seed_{s}/{name}" for s in (1, 2) for name in seed}
    assert expected == {name for name in names if "tensorboard" not in name}
    assert any("seed_1/tensorboard/events" in name for name in names)


def test_record_holds_what_is_needed_to_repeat_it(trained, corpus):
    record = _record(trained)
    assert record["status"] == "finished"
    assert record["n_steps"] == 6  # 6 windows, batch 2, 2 epochs
    assert [e["step"] for e in record["evaluations"]] == [2, 3, 4, 6]  # 0.5 epochs are 1.5 steps
    best = max(record["evaluations"], key=lambda e: e["dev"]["f1"] + e["dev"]["em"])
    assert record["scores"]["dev"] == best["dev"]
    assert record["config"]["learning_rate"] == 1e-3
    assert record["config"]["doc_stride"] == 128  # from the task's recipe
    assert len(record["hashes"]["train_file"]) == 64
    assert record["versions"]["torch"] and record["device"].startswith("CPU")
    assert record["peak_bytes"] > 10_000_000 and record["speed"]["tokens_per_s"] > 0 and record["wall_s"] > 0


def test_run_says_what_training_took_and_how_many_windows_it_is_evaluated_on(trained):
    record = _record(trained)
    speed, log = record["speed"], (trained / "run.log").read_text(encoding="utf-8")
    assert 0 < speed["train_runtime"] < record["wall_s"]
    assert speed["train_steps_per_second"] == pytest.approx(6 / speed["train_runtime"])
    assert speed["train_samples_per_second"] == pytest.approx(12 / speed["train_runtime"])
    n_windows = record["eval_samples"]["dev"]
    assert set(record["eval_samples"]) >= {"dev"} and n_windows > 0
    assert f"seed 1: train_runtime {speed['train_runtime']:.6g} train_samples_per_second" in log
    assert f"eval_samples {n_windows}" in log


def test_scores_file_equals_the_evaluate_command(trained, corpus, tmp_path):
    output = tmp_path / "scores.json"
    status = main(
        ["evaluate", "--task", "cmrc2018", "--data_file", str(corpus.data), "--predictions",
         str(trained / "seed_1/predictions_dev.json"), "--output", str(output)]
    )  # fmt: skip
    assert status == 0
    assert json.loads(output.read_text()) == json.loads((trained / "seed_1/scores_dev.json").read_text())


def test_data_report_accounts_for_every_question(trained):
    report = json.loads((trained / "data_report.json").read_text())
    assert (report["train"]["n_questions"], report["train"]["n_kept"], report["train"]["without_target"]) == (
        6,
        6,
        [],
    )


def test_same_command_gives_the_same_numbers_and_weights(trained, corpus, flags, tmp_path):
    assert main(flags(corpus, tmp_path / "again")) == 0
    for seed in (1, 2):
        for name in ("predictions_dev.json", "nbest_predictions_dev.json", "checkpoint-best/model.safetensors"):
            ours, again = (d / f"seed_{seed}" / name for d in (trained, tmp_path / "again"))
            assert ours.read_bytes() == again.read_bytes(), name
    assert _record(trained)["evaluations"] == _record(tmp_path / "again")["evaluations"]


def test_written_options_repeat_the_run(trained, tmp_path):
    assert main(["train", "--config", str(trained / "config.yaml"), "--output_dir", str(tmp_path / "again")]) == 0
    assert _record(tmp_path / "again")["evaluations"] == _record(trained)["evaluations"]


def test_flags_override_the_config_file(trained, tmp_path):
    flags = [
        "train",
        "--config",
        str(trained / "config.yaml"),
        "--output_dir",
        str(tmp_path / "other"),
        "--seeds",
        "9",
    ]
    assert main([*flags, "--learning_rate", "5e-4"]) == 0
    assert _record(tmp_path / "other", seed=9)["config"]["learning_rate"] == 5e-4


def test_full_disk_ends_neither_training_nor_the_message_of_an_error(corpus, flags, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write = Record.write
    # Of the first seed: at its beginning, after the evaluations, at its end.
    results = iter([write, full, full, full, full, write, write, full, full])
    monkeypatch.setattr(Record, "write", lambda *arguments: next(results)(*arguments))
    monkeypatch.setattr("experiment.io.events.EventFile.add", full)
    assert main(flags(corpus, tmp_path / "run", "--seeds", "1")) == 0
    printed = capsys.readouterr().out
    assert printed.count("no more events for TensorBoard from step 2 on") == 1
    assert printed.count("the Record can't be written ([Errno 28]") == 4
    record = _record(tmp_path / "run")
    assert record["status"] == "finished" and len(record["evaluations"]) == 4
    monkeypatch.setattr("experiment.training.selection.write_settings", full)
    assert main(flags(corpus, tmp_path / "run", "--seeds", "2")) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "No space left on device: " in error and "seed_2/checkpoint-best'; when" in error


def test_run_never_overwrites_its_own_checkpoint_by_whatever_path(
    trained, corpus, flags, tmp_path, monkeypatch, capsys
):
    """The shell does not expand the ~ of --model_name_or_path=~/run, and a link leads anywhere."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    best = trained / "seed_1" / "checkpoint-best"
    (tmp_path / "link").symlink_to(best)
    (tmp_path / "of_links").mkdir()
    for file in best.iterdir():
        (tmp_path / "of_links" / file.name).symlink_to(file)
    (tmp_path / "same_run").symlink_to(trained)
    places = ["~/run/seed_1/checkpoint-best", "run/../run/seed_1/checkpoint-best", "link", "of_links"]
    commands = [flags(corpus, output, "--overwrite_output_dir") for output in (trained, tmp_path / "same_run")]
    for command in commands:
        at = command.index("--config_name")
        for place in places:
            started = [*command[:at], f"--model_name_or_path={place}", *command[at + 2 :]]
            assert main(started) == 2
            assert "lies in --output_dir, which --overwrite_output_dir would delete" in capsys.readouterr().err
            assert (best / "model.safetensors").exists()


def test_tensorflow_checkpoint_in_the_run_is_an_input_by_its_prefix(tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001"):
        (tmp_path / "run" / name).write_text("")
    options = TrainOptions(
        task="cmrc2018", output_dir=tmp_path / "run", model_name_or_path=str(tmp_path / "run" / "model.ckpt")
    )
    with pytest.raises(UsageError, match="--model_name_or_path .* lies in --output_dir"):
        _check_inputs_outside(resolve_recipe(options, get_task("cmrc2018"), None))


def test_home_is_expanded_in_every_path(corpus, flags, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main([*flags(corpus, Path("~/run")), "--seeds", "1"]) == 0
    assert _record(tmp_path / "run")["status"] == "finished"


def test_test_file_without_answers_is_answered_and_not_scored(corpus, flags, tmp_path):
    data = json.loads(corpus.data.read_text())
    for article in data["data"]:
        for question in article["paragraphs"][0]["qas"]:
            del question["answers"]
    (tmp_path / "test.json").write_text(json.dumps(data))
    assert main([*flags(corpus, tmp_path / "run"), "--seeds", "1", "--test_file", str(tmp_path / "test.json")]) == 0
    assert len(json.loads((tmp_path / "run/seed_1/predictions_test.json").read_text())) == 6
    assert set(_record(tmp_path / "run")["scores"]) == {"dev"}


def test_loss_of_an_evaluation_is_the_mean_since_the_last(corpus, flags, tmp_path):
    for steps in ("1", "50"):
        assert main([*flags(corpus, tmp_path / steps), "--seeds", "1", "--logging_steps", steps]) == 0
    often, seldom = ([e["loss"] for e in _record(tmp_path / steps)["evaluations"]] for steps in ("1", "50"))
    assert often == pytest.approx(seldom, rel=1e-6)


def test_failure_leaves_a_record_with_its_status_and_no_score(corpus, flags, tmp_path, monkeypatch):
    from pytorch_modeling import Trainer

    def broken(self, batches):
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr(Trainer, "step", broken)
    with pytest.raises(RuntimeError, match="on fire"):
        main(flags(corpus, tmp_path / "run"))
    record = _record(tmp_path / "run")
    assert (record["status"], record["scores"]) == ("failed", {})
    assert "the machine is on fire" in record["error"]


def test_loss_that_is_not_finite_stops_with_one_line(corpus, flags, tmp_path, capsys):
    assert main([*flags(corpus, tmp_path / "run"), "--learning_rate", "1e30", "--warmup_ratio", "0"]) == 2
    assert "lower --learning_rate" in capsys.readouterr().err
    assert _record(tmp_path / "run")["status"] == "failed"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_has_its_status_and_the_same_command_goes_on(corpus, flags, tmp_path, sign):
    command = [sys.executable, str(ROOT / "run_mrc.py"), *flags(corpus, tmp_path / "run")]
    process = subprocess.Popen([*command, "--num_train_epochs", "100000"], stderr=subprocess.PIPE, text=True)
    record = tmp_path / "run" / "seed_1" / "record.json"
    deadline = time.monotonic() + 120
    while not (record.is_file() and json.loads(record.read_text())["evaluations"]):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(sign)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("interrupted;") and "Traceback" not in errors
    assert json.loads(record.read_text())["status"] == "interrupted"
    assert not _hidden_files(tmp_path / "run")


def test_full_disk_leaves_no_half_file_and_a_record(corpus, flags, tmp_path):
    """A limit on file sizes is what a full disk is to a program: small files fit, the weights do not."""
    command = [
        sys.executable,
        str(ROOT / "run_mrc.py"),
        *flags(corpus, tmp_path / "run", "--feature_cache_dir", "None"),
    ]
    limit = 8_000  # bytes; model.safetensors is larger, record.json smaller

    def restrict():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=restrict, timeout=600)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr
    assert _record(tmp_path / "run")["status"] == "failed"
    assert not _hidden_files(tmp_path / "run")
    assert not list((tmp_path / "run").rglob("model.safetensors"))
