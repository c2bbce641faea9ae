"""Checking files: every problem printed, counts that add up, and text that two splits (or one file) hold twice."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from experiment.commands.validate import validate
from experiment.inputs.overlap import Shared, duplicates, normalise, shared
from experiment.options.flags import ValidateOptions
from preprocess.base.errors import DataError, UsageError
from preprocess.readers.mrc import read_examples
from preprocess.types import Example


def write(path: Path, *paragraphs: tuple[str, list[Any]], more: tuple[Any, ...] = ()) -> Path:
    articles = [{"id": str(i), "paragraphs": [{"context": c, "qas": q}]} for i, (c, q) in enumerate(paragraphs)]
    path.write_text(json.dumps({"data": [*articles, *more]}), encoding="utf-8")
    return path


def qa(id: str, question: str = "谁？", text: Any = "甲", start: Any = 0) -> dict[str, Any]:
    return {"id": id, "question": question, "answers": [{"text": text, "answer_start": start}]}


def example(id: str, question: str, context: str, group: str = "") -> Example:
    return Example(id, question, context, group=group or id)


def test_a_good_file_is_status_0_and_counted(tmp_path: Path, capsys) -> None:
    file = write(tmp_path / "a.json", ("甲乙", [qa("q1"), qa("q2", "何？", "乙", 1)]))
    assert validate(ValidateOptions(task="cmrc2018", files=(file,))) == 0
    assert f"{file}: 1 articles, 1 contexts, 2 questions, 2 kept, 0 dropped\n" in capsys.readouterr().out


def test_every_problem_is_printed_and_anything_dropped_is_status_1(tmp_path: Path, capsys) -> None:
    moved = [qa(f"moved{i}", text="乙", start=0) for i in range(9)]
    file = write(tmp_path / "a.json", ("甲乙", [qa("q1"), qa("q1"), {"id": "q3"}, *moved]))
    assert validate(ValidateOptions(task="cmrc2018", files=(file,), output=tmp_path / "o.json")) == 1
    text = capsys.readouterr().out
    assert "12 questions, 10 kept, 2 dropped" in text
    assert "q1: id_duplicate: expected unique ids, found an id that came before; question dropped" in text
    assert 'q3: question_not_text: expected a string in "question", found nothing; question dropped' in text
    for i in range(9):
        assert f"moved{i}: relocated: expected answer '乙', found '甲' at char 0; it is at 1" in text
    report = json.loads((tmp_path / "o.json").read_text())["files"][0]
    n_dropped = sum(group["count"] for group in report["dropped"].values())
    assert (report["n_questions"], report["n_kept"], n_dropped) == (12, 10, 2)
    assert report["dropped"]["id_duplicate"]["ids"] == ["q1"] and len(report["problems"]) == 11
    assert report["problems"][-1].keys() == {"id", "kind", "found", "expected", "remedy"}


@pytest.mark.parametrize("lost", ["no article", {"paragraphs": [{"context": "甲"}]}])
def test_questions_that_can_not_even_be_counted_are_status_1(tmp_path: Path, lost: Any) -> None:
    file = write(tmp_path / "a.json", ("甲乙", [qa("q1")]), more=(lost,))
    assert validate(ValidateOptions(task="cmrc2018", files=(file,))) == 1


def test_unusable_files_are_named_all_at_once_after_the_others_reports(tmp_path: Path, capsys) -> None:
    good = write(tmp_path / "good.json", ("甲乙", [qa("q1")]))
    (tmp_path / "bad.json").write_text("{")
    files = (tmp_path / "bad.json", good, tmp_path / "none.json")
    with pytest.raises(DataError, match=r"bad.json: not JSON .*; .*none.json: no such file") as caught:
        validate(ValidateOptions(task="cmrc2018", files=files, output=tmp_path / "o.json"))
    assert "\n" not in str(caught.value)
    assert "1 questions, 1 kept" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "o.json").read_text())["unusable"]) == 2


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--train and --dev belong together"):
        validate(ValidateOptions(task="cmrc2018", train=tmp_path))
    with pytest.raises(UsageError, match="needs files"):
        validate(ValidateOptions(task="cmrc2018"))


@pytest.mark.parametrize(
    ("text", "reduced"),
    [
        ("范廷颂，是 越南\u3000人。", "范廷颂是越南人"),
        ("ＡＢ１２", "ab12"),  # full width
        ("a\u200bb\tc\n", "abc"),  # zero-width and control characters
        ("①“x”—…・～$+", "1x"),
        ("。？", ""),
    ],
)
def test_normalisation_by_hand(text: str, reduced: str) -> None:
    assert normalise([text]) == {text: reduced}


def test_shared_text_exact_and_after_normalisation() -> None:
    train = [example("t1", "谁？", "甲住在乙。"), example("t2", "何时？", "甲住在乙。"), example("t3", "谁？", "丙")]
    dev = [example("d1", "谁", "甲住在乙"), example("d2", "何时？", "丁"), example("d3", "谁？", "丙")]
    found = shared(train, dev)
    assert found["context"] == [Shared(False, ("t1", "t2"), ("d1",)), Shared(True, ("t3",), ("d3",))]
    assert found["question"] == [Shared(True, ("t1", "t3"), ("d1", "d3")), Shared(True, ("t2",), ("d2",))]
    assert found["question and context"] == [Shared(False, ("t1",), ("d1",)), Shared(True, ("t3",), ("d3",))]


def test_texts_without_content_are_not_shared() -> None:
    assert not any(shared([example("a", "？", "")], [example("b", "？", "")]).values())


def test_pairs_do_not_run_into_each_other() -> None:
    assert not shared([example("a", "甲乙", "丙")], [example("b", "甲", "乙丙")])["question and context"]


def test_contexts_of_two_paragraphs_and_questions_asked_twice_are_duplicates() -> None:
    examples = [
        example("1", "谁？", "甲", "A"),
        example("2", "何？", "甲", "A"),
        example("3", "谁", "甲 ", "B"),
        example("4", "几？", "乙", "B"),
        example("5", "几个？", "甲", "B"),
    ]
    found = duplicates(examples)
    assert found["context"] == [Shared(True, ("1",), ("3", "5"))]
    assert found["question and context"] == [Shared(False, ("1",), ("3",))]


def test_the_leak_check_prints_and_writes_ids(tmp_path: Path, capsys) -> None:
    train = write(tmp_path / "t.json", ("甲乙", [qa("t1")]), ("丙甲", [qa("t2", "谁", "甲", 1)]))
    dev = write(tmp_path / "d.json", ("甲，乙", [qa("d1")]))
    options = ValidateOptions(task="cmrc2018", train=train, dev=dev, files=(dev,), output=tmp_path / "o.json")
    assert validate(options) == 0
    text = capsys.readouterr().out
    assert text.count(f"{dev}: 1 articles") == 1  # a file that is named twice is read once
    assert "context shared: 0 exact, 1 after normalisation\n    t1 ~ d1\n" in text
    assert "question shared: 1 exact, 1 after normalisation\n    t1 (and 1 more) = d1\n" in text
    written = json.loads((tmp_path / "o.json").read_text())["shared"]
    assert written["question"] == {
        "n_exact": 1, "n_normalised": 1, "texts": [{"exact": True, "left": ["t1", "t2"], "right": ["d1"]}]
    }  # fmt: skip


def test_a_leak_check_with_an_unusable_file_says_so(tmp_path: Path) -> None:
    train = write(tmp_path / "t.json", ("甲乙", [qa("t1")]))
    with pytest.raises(DataError, match="none.json: no such file"):
        validate(ValidateOptions(task="cmrc2018", train=train, dev=tmp_path / "none.json"))


@pytest.mark.realdata
def test_cmrc_splits_share_nothing_and_are_compared_in_seconds(data_dir: Path) -> None:
    splits = [read_examples(data_dir / "cmrc2018" / f"cmrc2018_{name}.json")[0] for name in ("train", "dev", "trial")]
    started = time.perf_counter()
    for left, right in ((0, 1), (0, 2), (1, 2)):
        found = shared(splits[left], splits[right])
        assert not found["context"] and not found["question and context"]
    # Measured at 1 to 4 s in all; the bound only keeps out anything quadratic.
    assert time.perf_counter() - started < 60
    assert not duplicates(splits[0])["context"]
    assert shared(splits[1], splits[1])["context"][0].exact and len(shared(splits[1], splits[1])["context"]) == 848


@pytest.mark.realdata
def test_cjrc_contexts_337_and_338_are_one_text(data_dir: Path) -> None:
    examples, _ = read_examples(data_dir / "cjrc" / "dev_ground_truth.json")
    assert duplicates(examples)["context"] == [Shared(True, ("337_1",), ("338_1",))]
