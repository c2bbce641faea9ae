"""`train --teacher`: students learn from runs, on text without answers, too, and go on after a death."""

from __future__ import annotations

import functools
import json
import shutil
import signal

import pytest
import yaml
from safetensors.numpy import load_file

from benchmarks.kill import digest
from experiment.answering import prepare
from experiment.cli import main
from experiment.grid.cells import GridRun
from experiment.grid.checking import check
from experiment.options.arguments import split, understand
from experiment.options.flags import PredictOptions, TrainOptions
from experiment.reading.reader import Reader
from experiment.training.teachers import find_teachers
from preprocess.base.errors import UsageError
from preprocess.base.methods import STATES
from tasks.core.discovery import get_task
from tests.experiment.conftest import train_flags, write_corpus

TASK = get_task("cmrc2018")
FRAMEWORKS = {"pytorch": "pytorch_modeling", "tensorflow": "tf_modeling"}
LONG = ("--seeds", "1", "--num_train_epochs", "40", "--eval_epochs", "40", "--learning_rate", "1e-2")
#: Windows that hold a part of a text each; the teacher's hold all of it.
SHORT_WINDOWS = ("--max_seq_length", "20", "--doc_stride", "4")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A corpus, the same without answers, and a run to be learned from."""
    directory = tmp_path_factory.mktemp("distillation")
    corpus = write_corpus(directory)
    data = json.loads(corpus.data.read_text(encoding="utf-8"))
    for article in data["data"]:
        for question in article["paragraphs"][0]["qas"]:
            del question["answers"]
    unlabelled = directory / "unlabelled.json"
    unlabelled.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    assert main(train_flags(corpus, directory / "teacher", *LONG)) == 0
    return corpus, unlabelled, directory / "teacher"


def _command(place, output, *more):
    corpus, unlabelled, teacher = place
    taught = ("--teacher", str(teacher), "--train_file", str(unlabelled), "--distill_weight", "1")
    return train_flags(corpus, output, *LONG, *SHORT_WINDOWS, *taught, "--distill_temperature", "1", *more)


@pytest.fixture
def flags(place):
    return functools.partial(_command, place)


def _record(run):
    return json.loads((run / "seed_1" / "record.json").read_text())


def _error(capsys, command):
    assert main(command) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_student_learns_from_text_without_answers(flags, place, tmp_path, monkeypatch, capsys, framework):
    """Its windows and its framework need not be the teacher's; and a teacher is asked once for all seeds and runs."""
    if framework == "tensorflow":
        pytest.importorskip("tensorflow")
    corpus, unlabelled, teacher = place
    calls = []
    outputs = Reader.outputs
    monkeypatch.setattr(Reader, "outputs", lambda *a: calls.append(1) or outputs(*a))
    command = flags(tmp_path / "run", "--framework", framework)
    assert main(command) == 0
    n_asked = len(calls)
    assert main([*command, "--seeds", "2", "--num_train_epochs", "1", "--output_dir", str(tmp_path / "more")]) == 0
    assert len(calls) == n_asked == 1
    answers = json.loads((tmp_path / "run" / "seed_1" / "predictions_dev.json").read_text())
    likely = json.loads((teacher / "seed_1" / "nbest_predictions_dev.json").read_text())
    # Of some hundred spans in each text.
    assert all(text in [one["text"] for one in likely[id][:2]] for id, text in answers.items())
    record = _record(tmp_path / "run")
    asked = PredictOptions(task="cmrc2018", model_name_or_path=str(teacher))
    assert record["hashes"]["teacher_1"] == prepare(asked).source.checkpoint_sha256
    assert "trained on: 0; learned from teachers alone for want of a located answer: 6" in capsys.readouterr().out


def test_without_a_weight_of_teachers_there_is_nothing_to_learn(flags, tmp_path, capsys):
    assert "give a training file with answers" in _error(capsys, flags(tmp_path / "run", "--distill_weight", "0"))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_seed_goes_on_as_if_nothing_had_happened(flags, tmp_path, monkeypatch, framework):
    module = pytest.importorskip(FRAMEWORKS[framework])
    more = ("--framework", framework, "--num_train_epochs", "3", "--eval_epochs", "1", "--save_steps", "1")
    more += ("--distill_hidden", "0.5")
    assert main(flags(tmp_path / "whole", *more, "--distill_temperature", "3")) == 0
    weights = load_file(tmp_path / "whole" / "seed_1" / "checkpoint-best" / "model.safetensors")
    assert not any(STATES in name for name in weights)
    step, n_steps = module.Trainer.step, []

    def dying(self, batches):
        step(self, batches)
        n_steps.append(1)
        if len(n_steps) == 4:
            signal.raise_signal(signal.SIGTERM)

    command = flags(tmp_path / "died", *more, "--distill_temperature", "3")
    with monkeypatch.context() as patch:
        patch.setattr(module.Trainer, "step", dying)
        assert main(command) == 130
    assert main(command) == 0
    assert digest(tmp_path / "died") == digest(tmp_path / "whole")


def test_a_damaged_opinion_is_asked_for_again(flags, place, tmp_path, caplog, monkeypatch, capsys):
    cache = tmp_path / "cache"
    more = ("--num_train_epochs", "1", "--feature_cache_dir", str(cache))
    assert main(flags(tmp_path / "first", *more)) == 0
    (kept,) = cache.glob("teacher-*.npz")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    assert main(flags(tmp_path / "second", *more)) == 0
    assert "damaged" in caplog.text and kept.read_bytes() == whole
    assert _record(tmp_path / "second")["scores"] == _record(tmp_path / "first")["scores"]
    # A grid, a search or an ablation takes the run for what it is, and its training file for one.
    options = understand(split(flags(tmp_path / "first", *more)[1:], TrainOptions), TrainOptions)
    (checked,) = check([GridRun("first", "", (), options)])
    assert checked.changes == []
    # Where there is no place for a student nobody waits for its teacher.
    monkeypatch.setattr("experiment.training.prepare.taught", lambda *_: pytest.fail("the teacher was asked"))
    other = flags(tmp_path / "first", *more, "--seeds", "2", "--train_file", str(place[0].data))
    assert "seed 1 was trained on another train_file" in _error(capsys, other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    assert "holds files that are not a run" in _error(capsys, flags(tmp_path / "mine"))
    assert "which --overwrite_output_dir would delete" in _error(capsys, flags(place[2], "--overwrite_output_dir"))


def test_what_can_not_teach_is_refused_in_one_line(flags, place, tmp_path, capsys):
    corpus, _, teacher = place
    error = _error(capsys, flags(tmp_path / "run", "--teacher", str(tmp_path / "nobody")))
    assert "nobody" in error and len(error.strip().splitlines()) == 1
    checkpoint = teacher / "seed_1" / "checkpoint-best"
    error = _error(capsys, flags(tmp_path / "run", "--teacher", str(teacher), str(checkpoint)))
    assert "a checkpoint stands there twice" in error
    error = _error(capsys, flags(tmp_path / "run", "--distill_weight", "1.5"))
    assert "--distill_weight" in error and "between 0 and 1" in error
    assert "leave one out" in _error(capsys, flags(tmp_path / "run", "--label_smoothing", "0.1"))
    alone = train_flags(corpus, tmp_path / "run", "--distill_hidden", "1")
    assert "matches the states of one --teacher, and 0 are given" in _error(capsys, alone)
    other = corpus.model.parent / "other"
    shutil.copytree(corpus.model, other)
    (other / "vocab.txt").write_text("\n".join((corpus.model / "vocab.txt").read_text().split()[::-1]) + "\n")
    foreign = flags(tmp_path / "run", "--distill_hidden", "1", "--tokenizer_name", str(other))
    assert "has another tokenizer or layout of windows than the student" in _error(capsys, foreign)
    with pytest.raises(UsageError, match="give one --task"):
        find_teachers(TrainOptions(task="cmrc2018,drcd", teacher=(str(teacher),), output_dir=tmp_path), [TASK, TASK])
    with pytest.raises(UsageError, match="no spans"):
        find_teachers(TrainOptions(task="c3", teacher=(str(teacher),), output_dir=tmp_path), [get_task("c3")])
    assert not (tmp_path / "run").exists()


def test_several_teachers_are_one(flags, place, tmp_path):
    corpus, _, teacher = place
    second = tmp_path / "second"
    assert main(train_flags(corpus, second, "--seeds", "2", "--num_train_epochs", "1")) == 0
    output = tmp_path / "run"
    assert main(flags(output, "--teacher", str(teacher), str(second), "--num_train_epochs", "1")) == 0
    hashes = _record(output)["hashes"]
    assert len({hashes["teacher_1"], hashes["teacher_2"], hashes["checkpoint"]}) == 3
    assert yaml.safe_load((output / "config.yaml").read_text())["teacher"] == [str(teacher), str(second)]
