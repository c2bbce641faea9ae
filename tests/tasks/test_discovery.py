"""Tasks are found by their modules; CMRC2018 is one of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from preprocess.base.errors import DataError
from preprocess.types import Answer, Example
from tasks.core.discovery import find_tasks, get_task, task_names
from tasks.core.prediction import DecodeOptions
from tasks.core.task import TaskOptions

ONE_MORE = """
from dataclasses import replace
from tasks.cmrc2018 import TASK as CMRC
TASK = replace(CMRC, name="{name}")
"""


def test_cmrc2018_is_found() -> None:
    assert "cmrc2018" in task_names()
    assert get_task("cmrc2018").name == "cmrc2018"


def test_every_task_is_named_like_its_module() -> None:
    for name in task_names():
        assert importlib.import_module(f"tasks.{name}").TASK is get_task(name)


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(DataError) as error:
        get_task("cmrc")
    assert str(error.value) == "unknown task 'cmrc'; did you mean 'cmrc2018'?"


def test_unknown_task_far_from_all_lists_them() -> None:
    with pytest.raises(DataError, match="unknown task 'zzz'; known tasks: .*cmrc2018"):
        get_task("zzz")


def test_a_new_file_is_a_new_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "more_tasks"
    (package / "core").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "core" / "__init__.py").write_text("raise AssertionError('sub-packages hold no tasks')")
    (package / "helper.py").write_text("TASK = 'no task'\n")
    (package / "drcd.py").write_text(ONE_MORE.format(name="drcd"))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = find_tasks(importlib.import_module("more_tasks"))
    for module in [name for name in sys.modules if name.startswith("more_tasks")]:
        monkeypatch.delitem(sys.modules, module)
    assert list(found) == ["drcd"]


def test_target_is_the_first_answer_with_a_place() -> None:
    lost, found = Answer("丁"), Answer("乙", 1, 2)
    targets = get_task("cmrc2018").targets
    assert targets(Example("q", "?", "甲乙丙", (lost, found, Answer("丙", 2, 3)))) == (found,)
    assert targets(Example("q", "?", "甲乙丙", (lost,))) == ()


def test_option_that_a_task_does_not_have_is_refused() -> None:
    with pytest.raises(DataError, match="task 'cmrc2018' has no option --opencc_config"):
        get_task("cmrc2018", TaskOptions(opencc_config="t2s"))
    assert get_task("cmrc2018", TaskOptions()) is get_task("cmrc2018")


def test_task_scores_examples_against_all_answers() -> None:
    examples = [Example("q", "?", "", (Answer("甲"), Answer("乙")))]
    assert get_task("cmrc2018").score(examples, {"q": "乙"}).values == {"em": 100.0, "f1": 100.0, "average": 100.0}


def test_decode_options_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="n_best_size must be at least 1, found 0"):
        DecodeOptions(n_best_size=0)


def test_cmrc_offsets_are_read_as_utf16(tmp_path: Path) -> None:
    # Code point 2 holds the same character, so only the unit decides; U+2B6AD takes two UTF-16 units.
    file = tmp_path / "one.json"
    file.write_text(
        '{"data": [{"paragraphs": [{"context": "𫚭鱼鱼", "qas": [{"id": "q", "question": "?",'
        ' "answers": [{"text": "鱼", "answer_start": 2}]}]}]}]}',
        encoding="utf-8",
    )
    examples, report = get_task("cmrc2018").read(file)
    assert (examples[0].answers[0].char_start, report.n_kept) == (1, 1)


@pytest.mark.realdata
def test_every_cmrc_dev_question_has_a_target(data_dir: Path) -> None:
    task = get_task("cmrc2018")
    examples, _ = task.read(data_dir / "cmrc2018" / "cmrc2018_dev.json")
    targets = [next(iter(task.targets(example)), None) for example in examples]
    assert len(examples) == 3219
    for example, target in zip(examples, targets, strict=True):
        assert target is not None
        assert example.context[target.char_start : target.char_end] == target.text
