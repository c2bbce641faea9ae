"""Several tasks in one model: a head, a Record and a best checkpoint for each, and from one task to the next."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.kill import digest
from experiment.cli import main
from experiment.inputs.settings import read_settings
from experiment.report.measured import entries_of_run
from experiment.training.finished import read_finetuned
from experiment.training.record import Record, run_of, run_records, runs_in
from tests.experiment.conftest import train_flags, write_corpus
from tests.support.additions import CHOICE, added_tasks

PACKAGES = {"pytorch": "pytorch_modeling", "tensorflow": "tf_modeling"}
TASKS = ("cmrc2018", "drcd", "toy_choice")
HEADS = {"cmrc2018-span": 2, "drcd-span": 2, "toy_choice-option": 1}
OF_LINES = [
    {"id": f"C_{i}", "question": "", "text": "小猫住在北京。小狗住在上海。", "options": ["北京", "上海", "香蕉"],
     "answers": [[answer, 0, "option"]]}
    for i, answer in enumerate(("北京", "上海", "北京", "香蕉"))
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A corpus, and questions with options as a third task."""
    directory = tmp_path_factory.mktemp("joint")
    corpus = write_corpus(directory)
    (directory / "choice.jsonl").write_text("\n".join(map(json.dumps, OF_LINES)) + "\n", encoding="utf-8")
    with added_tasks(directory / "tasks", toy_choice=CHOICE):
        yield corpus


def _flags(corpus, output, *more, tasks=TASKS):
    files = {task: corpus.data.parent / "choice.jsonl" if task == "toy_choice" else corpus.data for task in tasks}
    given = [f"{task}={path}" for task, path in files.items()]
    flags = train_flags(corpus, output, "--seeds", "1", *more)
    for flag in ("--train_file", "--validation_file"):
        at = flags.index(flag)
        flags[at : at + 2] = [flag, *given]
    flags[flags.index("--task") + 1] = ",".join(tasks)
    return flags


@pytest.fixture(scope="module")
def trained(place, tmp_path_factory):
    """Return the run directory of all three tasks in a framework."""
    directory = tmp_path_factory.mktemp("runs")

    def run(framework):
        output = directory / framework
        if not output.exists():
            more = ("--framework", framework, "--task_sampling", "equal", "--save_steps", "1")
            assert main(_flags(place, output, *more)) == 0
        return output

    return run


def _record(directory):
    return json.loads((directory / "record.json").read_text())


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_tasks_of_several_kinds_share_an_encoder_and_leave_what_each_would_leave_alone(trained, framework):
    run = trained(framework)
    whole = _record(run / "seed_1")
    assert (whole["task"], whole["selection"], whole["status"]) == (",".join(TASKS), ["mean"], "finished")
    own = {task: _record(run / task / "seed_1") for task in TASKS}
    dev = whole["scores"]["dev"]
    means = [np.mean([dev[f"{task}.{name}"] for name in own[task]["selection"]]) for task in TASKS]
    assert dev["mean"] == pytest.approx(np.mean(means))
    for task, record in own.items():
        # The checkpoint of a task is the best of all its evaluations by the rule of a run of its own.
        merits = [sum(entry["dev"][name] for name in record["selection"]) for entry in record["evaluations"]]
        assert record["step"] == record["evaluations"][merits.index(max(merits))]["step"]
        assert sum(record["scores"]["dev"][name] for name in record["selection"]) == pytest.approx(max(merits))
        assert set(record["hashes"]) >= {"train_file", "dev_file"} and record["joint"] == list(TASKS)
        assert (run / task / "seed_1" / "scores_dev.json").is_file()
        assert (run / "seed_1" / f"predictions_dev_{task}.json").is_file()
    joint = [entry["dev"]["mean"] for entry in whole["evaluations"]]
    assert whole["step"] == whole["evaluations"][joint.index(max(joint))]["step"]
    for directory in (run, *(run / task for task in TASKS)):
        weights = load_file(directory / "seed_1" / "checkpoint-best" / "model.safetensors")
        assert {name: len(weights[f"head.{name}.weight"]) for name in HEADS} == HEADS


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_answered_by_its_own_head_as_when_it_was_trained(place, trained, tmp_path, framework, task):
    run = trained(framework)
    data = place.data.parent / "choice.jsonl" if task == "toy_choice" else place.data
    for checkpoint, name in ((run / "seed_1", f"predictions_dev_{task}"), (run / task / "seed_1", "predictions_dev")):
        answers = tmp_path / checkpoint.parent.name
        command = ["predict", "--task", task, "--model_name_or_path", str(checkpoint / "checkpoint-best")]
        command += ["--test_file", str(data), "--output_dir", str(answers), "--framework", framework]
        assert main([*command, "--feature_cache_dir", "None"]) == 0
        assert (answers / "predictions.json").read_text() == (checkpoint / f"{name}.json").read_text()


def test_a_task_that_was_not_trained_is_refused_with_those_that_were(trained, capsys):
    checkpoint = trained("pytorch") / "seed_1" / "checkpoint-best"
    asked = ["--model_name_or_path", str(checkpoint), "--question", "a", "--context", "b"]
    assert main(["predict", "--task", "squad", *asked]) == 2
    assert (
        "of which squad is none; give one of them with --task: cmrc2018, drcd, toy_choice" in capsys.readouterr().err
    )
    assert main(["predict", *asked]) == 2
    assert "fine-tuned for several tasks; give one (task) of cmrc2018, drcd, toy_choice" in capsys.readouterr().err
    assert main(["predict", "--task", "cmrc2018,drcd", *asked]) == 2
    assert "are several tasks, which only train, plan and grid take" in capsys.readouterr().err
    assert read_settings(checkpoint, "drcd").task == "drcd" and read_settings(checkpoint).task == ",".join(TASKS)
    assert main(["export", "--model_name_or_path", str(checkpoint), "--output", str(checkpoint / "x")]) == 2
    assert "say with --task whose head is to be exported" in capsys.readouterr().err


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_a_joint_run_that_has_died_goes_on_and_ends_as_the_undisturbed_one(
    place, trained, tmp_path, monkeypatch, framework
):
    undisturbed = trained(framework)
    trainer = importlib.import_module(PACKAGES[framework]).Trainer
    step, output, n_steps = trainer.step, tmp_path / "run", []
    flags = _flags(place, output, "--framework", framework, "--task_sampling", "equal", "--save_steps", "1")

    def dying(self, batches):
        n_steps.append(1)
        if len(n_steps) == 7:  # after the first evaluation
            raise RuntimeError("the process dies")
        step(self, batches)

    monkeypatch.setattr(trainer, "step", dying)
    with pytest.raises(RuntimeError, match="the process dies"):
        main(flags)
    assert _record(output / "drcd" / "seed_1")["status"] == "failed"
    assert main(flags) == 0
    assert "goes on after step" in (output / "run.log").read_text()
    assert digest(output) == digest(undisturbed)
    assert main(flags) == 2  # it is finished
    assert main([*flags, "--overwrite_output_dir", "--seeds", "2"]) == 0
    # Nothing of the older run is left, in the directory of no task.
    assert not list(output.rglob("seed_1")) and _record(output / "drcd" / "seed_2")["status"] == "finished"


def test_further_files_are_refused_before_a_model_is_looked_for(place, tmp_path, capsys):
    command = _flags(place, tmp_path / "run", "--more_train_files", str(place.data))
    command[command.index("--config_name") + 1] = str(tmp_path / "nothing")
    assert main(command) == 2
    assert "--more_train_files: are of one task, and several are learned together" in capsys.readouterr().err


def test_one_task_is_the_special_case_whichever_way_its_files_are_given(place, tmp_path):
    named = _flags(place, tmp_path / "named", tasks=("cmrc2018",))
    assert "--train_file" in named and named[named.index("--train_file") + 1].startswith("cmrc2018=")
    assert main(named) == 0
    assert main(train_flags(place, tmp_path / "plain", "--seeds", "1")) == 0
    assert digest(tmp_path / "named") == digest(tmp_path / "plain")
    assert "joint" not in _record(tmp_path / "plain" / "seed_1")
    assert not (tmp_path / "plain" / "cmrc2018").exists()


def test_each_task_of_a_run_is_a_row_that_shares_no_protocol_with_a_run_of_its_own(place, trained, tmp_path, capsys):
    run = trained("pytorch")
    assert main(train_flags(place, tmp_path / "alone", "--seeds", "1")) == 0
    capsys.readouterr()
    assert main(["leaderboard", str(run), str(tmp_path / "alone")]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in lines if "|" in line]
    model = _record(tmp_path / "alone" / "seed_1")["model"]
    for task in TASKS:
        others = ", ".join(other for other in TASKS if other != task)
        assert [task, "dev", f"{model}, jointly with {others}"] in rows
    assert ["cmrc2018", "dev", model] in rows and [",".join(TASKS), "dev", model] in rows
    entries = [*entries_of_run(run), *entries_of_run(tmp_path / "alone")]
    protocols = {e.protocol.other for e in entries if e.task == "cmrc2018" and e.protocol.selection == "checkpoint"}
    assert protocols == {"", f"trained jointly on {', '.join(TASKS)} (equal)"}
    (of_all,) = [e for e in entries if e.task == "drcd" and e.protocol.selection == "joint"]
    assert of_all.values["f1"].mean == _record(run / "seed_1")["scores"]["dev"]["drcd.f1"]
    assert of_all.samples["f1"].values.shape == (6, 1)


def test_what_reads_runs_finds_the_tasks_in_one(trained, place, tmp_path, capsys):
    run = trained("pytorch")
    assert runs_in(run) == [run / task for task in TASKS] and runs_in(run / "drcd") == [run / "drcd"]
    assert run_of(run, "drcd") == run / "drcd" and run_of(run, "squad") == run
    assert run_records(run)[0].is_of_all and not run_records(run / "drcd")[0].is_of_all
    command = ["ensemble", str(run), str(run / "seed_1" / "checkpoint-best"), "--task", "drcd"]
    assert main([*command, "--test_file", str(place.data), "--output_dir", str(tmp_path / "both")]) == 0
    assert "answers of 2 models" in capsys.readouterr().out
    assert main(["report", str(run), "--output", str(tmp_path / "page")]) == 0
    assert "jointly with drcd, toy_choice" in (tmp_path / "page" / "index.html").read_text()
    capsys.readouterr()
    assert main(["card", str(run), "--output", str(tmp_path / "card")]) == 2
    assert f"a run of several tasks, each of which has a card of its own; give one of {run}/cmrc2018" in (
        capsys.readouterr().err
    )
    assert main(["card", str(run / "drcd"), "--output", str(tmp_path / "card")]) == 0
    text = (tmp_path / "card" / "README.md").read_text()
    assert "fine-tuned on DRCD together with CMRC 2018, Toy choice" in text
    assert f"--train_file cmrc2018={place.data} drcd={place.data}" in text


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_another_task_starts_from_the_encoder_with_a_fresh_head_or_keeps_it(place, trained, tmp_path, framework):
    start = trained("pytorch") / "drcd" / "seed_1" / "checkpoint-best"
    before = load_file(start / "model.safetensors")
    flags = train_flags(place, tmp_path / "x", "--seeds", "1", "--learning_rate", "0", "--framework", framework)
    at = flags.index("--config_name")
    flags[at : at + 2] = ["--model_name_or_path", str(start)]
    kept = {}
    for task, more in (("xquad_zh", ()), ("xquad_zh", ("--keep_head",)), ("drcd", ())):
        output = tmp_path / f"{task}{len(more)}"
        flags[flags.index("--task") + 1], flags[flags.index("--output_dir") + 1] = task, str(output)
        assert main([*flags, *more]) == 0
        after = load_file(output / "seed_1" / "checkpoint-best" / "model.safetensors")
        encoder = [name for name in before if ".encoder." in name or ".embeddings." in name]
        assert encoder and all(np.array_equal(before[name], after[name]) for name in encoder)
        kept[output.name] = after["qa_outputs.weight"], (output / "run.log").read_text()
    weights, log = kept["xquad_zh0"]
    assert "fresh of the head: span" in log and "--keep_head keeps what fits" in log and "fresh    head.span" in log
    assert not any(np.array_equal(weights, before[f"head.{task}-span.weight"]) for task in ("cmrc2018", "drcd"))
    # Of several heads that fit it is the first task's; a task's own goes on without being asked for.
    assert np.array_equal(kept["xquad_zh1"][0], before["head.cmrc2018-span.weight"])
    assert np.array_equal(kept["drcd0"][0], before["head.drcd-span.weight"])
    assert "fresh of the head" not in kept["drcd0"][1] + kept["xquad_zh1"][1]


def test_several_tasks_start_from_one_with_its_head_for_it_alone(place, trained, tmp_path, capsys):
    start = trained("pytorch") / "seed_1" / "checkpoint-best"
    before = load_file(start / "model.safetensors")

    def flags(output, *more, tasks):
        found = _flags(place, tmp_path / output, "--learning_rate", "0", *more, tasks=tasks)
        at = found.index("--config_name")
        found[at : at + 2] = ["--model_name_or_path", str(start)]
        return found

    assert main(flags("two", tasks=("drcd", "xquad_zh"))) == 0
    after = load_file(tmp_path / "two" / "seed_1" / "checkpoint-best" / "model.safetensors")
    assert np.array_equal(after["head.drcd-span.weight"], before["head.drcd-span.weight"])
    assert "fresh of the head: xquad_zh-span;" in (tmp_path / "two" / "run.log").read_text()
    capsys.readouterr()
    # What another task's head is called otherwise, or has more rows, does not fit.
    single = tmp_path / "two" / "xquad_zh" / "seed_1" / "checkpoint-best"
    refused = flags("three", "--keep_head", tasks=("toy_choice",))
    refused[refused.index("--model_name_or_path") + 1] = str(single)
    assert main(refused) == 2
    assert "--keep_head: nothing of the head of" in (said := capsys.readouterr().err)
    assert "it has drcd-span (2), xquad_zh-span (2), and option (1) is needed" in said
    assert main(_flags(place, tmp_path / "four", "--keep_head")) == 2
    assert "--keep_head: a model from scratch has no head" in capsys.readouterr().err


def test_a_plan_knows_all_heads_and_the_turns(place, tmp_path, capsys):
    flags = [text for text in _flags(place, tmp_path / "x", "--task_weights", "cmrc2018=1", "drcd=1", "toy_choice=8")]
    flags[0] = "plan"
    for flag in ("--output_dir", "--num_train_epochs"):
        at = flags.index(flag)
        del flags[at : at + 2]
    path = tmp_path / "plan.json"
    assert main([*flags, "--gpu", "t4", "--json", str(path)]) == 0
    said = capsys.readouterr().out
    assert "one model for cmrc2018, drcd, toy_choice; sampling: weights cmrc2018=1 drcd=1 toy_choice=8" in said
    time = json.loads(path.read_text())["time"]
    # 3 + 3 + 4 steps see all windows once; ten turns go 1 : 1 : 8.
    assert time["n_steps"] == 10 and Path(place.data).is_file() and time["n_windows"] == 2 + 2 + 8 * 3


def test_a_run_with_a_task_is_the_tasks_own_best_checkpoint(trained, tmp_path, monkeypatch):
    """The one that the table scores and that is calibrated; not the one that is best for all."""
    run = trained("pytorch")
    read = []
    monkeypatch.setattr("experiment.training.finished.read_checkpoint", lambda name, _: read.append(Path(name)))
    for task in ("drcd", None, "squad"):
        read_finetuned(str(run), None, task)
    own, of_all = (place / "seed_1" / "checkpoint-best" for place in (run / "drcd", run))
    assert read == [own, of_all, of_all]
    read_finetuned(str(own), None, "cmrc2018")
    assert read[-1] == own


def test_the_seeds_record_is_finished_after_those_of_its_tasks(place, tmp_path, monkeypatch):
    """Whoever is killed between two of them goes on, and has all of them in the end."""
    written, write = [], Record.write

    def full(self, directory):
        if self.status == "finished" and directory.parent.name == "drcd" and not written:
            written.append(directory)
            raise OSError(28, "No space left on device")
        write(self, directory)

    monkeypatch.setattr(Record, "write", full)
    flags = _flags(place, tmp_path / "run", "--num_train_epochs", "1", tasks=TASKS[:2])
    assert main(flags) == 2 and written and _record(tmp_path / "run" / "seed_1")["status"] != "finished"
    assert main(flags) == 0
    for directory in ("seed_1", "cmrc2018/seed_1", "drcd/seed_1"):
        assert _record(tmp_path / "run" / directory)["status"] == "finished"
        assert _record(tmp_path / "run" / directory)["scores"]


def test_each_task_is_calibrated_alone(trained, place, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained("pytorch"), run)
    command = ["calibrate", str(run), "--data_file", str(place.data), "--device", "cpu"]
    assert main(command) == 2
    assert f"it was fine-tuned for {','.join(TASKS)}; give one of them with --task" in capsys.readouterr().err
    assert main([*command, "--task", "cmrc2018"]) == 0
    settings = json.loads((run / "cmrc2018/seed_1/checkpoint-best/mrc_settings.json").read_text())
    kept = {task: own["calibration"] for task, own in settings["tasks"].items()}
    assert kept.pop("cmrc2018")["temperature"] > 0 and not any(kept.values())
