"""The files of docs/adding-a-task.md, taken from the page: each is a task that every command knows."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

import tasks
from experiment.cli import main
from experiment.commands.tasks import tasks as list_tasks
from experiment.commands.validate import validate
from experiment.options.flags import TasksOptions, ValidateOptions
from preprocess.base.errors import DataError
from tasks.core.discovery import get_task, task_names
from tasks.core.problem import Tunable

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding-a-task.md").read_text(encoding="utf-8")
FILES = dict(zip(("riddles", "moods", "riddles_tsv"), re.findall(r"```python\n(.*?)```", PAGE, re.S), strict=True))


@pytest.fixture
def new_tasks(tmp_path, monkeypatch):
    """Put the files where tasks are looked for."""
    directory = tmp_path / "more_tasks"
    directory.mkdir()
    for name, code in FILES.items():
        (directory / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(directory)])
    yield
    for name in FILES:
        sys.modules.pop(f"tasks.{name}", None)
        if hasattr(tasks, name):
            delattr(tasks, name)


@pytest.fixture
def tsv(corpus, tmp_path):
    """The corpus as lines."""
    document = json.loads(corpus.data.read_text(encoding="utf-8"))
    file = tmp_path / "data.tsv"
    rows = [
        (qa["id"], qa["question"], qa["answers"][0]["text"], paragraph["context"])
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    file.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return file


def train(corpus, flags, directory, name, file):
    arguments = flags(corpus, directory)
    for flag, value in (("--task", name), ("--train_file", file), ("--validation_file", file)):
        arguments[arguments.index(flag) + 1] = str(value)
    assert main(arguments) == 0


def test_a_new_file_is_listed_trained_scored_and_used_for_prediction(
    new_tasks, corpus, flags, tmp_path, capsys
) -> None:
    assert "riddles" in task_names()
    list_tasks(TasksOptions(data_dir=tmp_path))
    text = capsys.readouterr().out
    assert "riddles: Riddles (version 1)" in text and "https://example.org/riddles_train.json" in text
    run = tmp_path / "run"
    train(corpus, flags, run, "riddles", corpus.data)
    record = json.loads((run / "seed_1" / "record.json").read_text())
    assert (record["task"], record["task_version"], record["status"]) == ("riddles", "1", "finished")
    assert set(record["scores"]["dev"]) >= {"em", "f1"}
    predictions, scores = run / "seed_1" / "predictions_dev.json", tmp_path / "scores.json"
    command = ["evaluate", "--task", "riddles", "--data_file", str(corpus.data), "--predictions", str(predictions)]
    assert main([*command, "--output", str(scores)]) == 0
    assert json.loads(scores.read_text())["values"] == record["scores"]["dev"]
    command = ["predict", "--task", "riddles", "--model_name_or_path", str(run / "seed_1" / "checkpoint-best")]
    assert main([*command, "--question", "小猫住在哪里？", "--context", "小猫住在北京。"]) == 0


def test_a_layout_of_its_own_trains_to_the_same_weights(new_tasks, corpus, flags, tmp_path, tsv) -> None:
    train(corpus, flags, tmp_path / "json", "riddles", corpus.data)
    train(corpus, flags, tmp_path / "tsv", "riddles_tsv", tsv)
    weights = "seed_1/checkpoint-best/model.safetensors"
    assert (tmp_path / "json" / weights).read_bytes() == (tmp_path / "tsv" / weights).read_bytes()


def test_rows_of_a_text_and_a_class_are_a_task(new_tasks, tmp_path) -> None:
    task, file = get_task("moods"), tmp_path / "moods.tsv"
    file.write_text("1\t下雨了\nsad\t天晴了\nangry\t刮风了\n", encoding="utf-8")
    examples, report = task.read(file)
    assert [(e.id, e.answers[0].text) for e in examples] == [("1", "glad"), ("2", "sad")]
    assert report.dropped == {"label_unknown": ["3"]}
    assert task.score(examples, {"1": "1", "2": "glad"}).values == {"accuracy": 50.0}


def test_the_layout_of_its_own_keeps_the_readers_contract(new_tasks, tmp_path) -> None:
    read, file = get_task("riddles_tsv").read, tmp_path / "data.tsv"
    file.write_bytes("q1\t谁？\t乙\t甲乙\u2028丙\r\nq1\t谁？\t甲\t甲\r\n\nq2\t谁？\t丁\t甲\n".encode())
    examples, report = read(file)
    assert [(e.id, e.context, e.answers[0].char_start) for e in examples] == [
        ("q1", "甲乙\u2028丙", 1),
        ("q2", "甲", -1),
    ]
    assert report.dropped == {"id_duplicate": ["q1"], "line_malformed": ["line 3"]}
    assert report.notes == {"searched": ["q1"], "answer_not_in_context": ["q2"]}
    assert (report.n_questions, report.n_kept) == (4, 2)
    assert validate(ValidateOptions(task="riddles_tsv", files=(file,))) == 1
    for content in (b"", b"\xff\n", b"a\tb"):
        file.write_bytes(content)
        with pytest.raises(DataError, match="id, question, answer, context"):
            read(file)


def test_the_page_names_only_what_is_there() -> None:
    for name in re.findall(r"`((?:tasks|tests)/[a-z_/]+\.py)`", PAGE):
        assert (ROOT / name).is_file() or name.removesuffix(".py").removeprefix("tasks/") in FILES, name
    drcd, cjrc, squad_v2 = map(get_task, ("drcd", "cjrc", "squad_v2"))
    assert drcd.transform and drcd.options and cjrc.problem.head.reads("sequence") and cjrc.report and cjrc.official
    assert isinstance(cjrc.problem, Tunable) and isinstance(squad_v2.problem, Tunable)


def test_every_field_of_a_task_is_explained() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.S)
    assert not [name for name in get_task("cmrc2018").__dataclass_fields__ if f"`{name}`" not in prose]
