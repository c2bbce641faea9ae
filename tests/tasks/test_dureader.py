"""DuReader-robust and DuReader-checklist: the official metric and what is trained on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from preprocess.base.errors import DataError
from preprocess.types import Answer, Example
from tasks.core.discovery import get_task
from tasks.metrics.dureader import ChecklistScorer, DureaderScorer

DROPPED = [*":_`，。：？！()“”；’《》·、,「」（）－～『』|", "……"]
BLOCKS = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)]
BLOCKS += [(0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]


def by_hand(answers: list[str], prediction: str) -> tuple[float, float]:
    """Follow the published rules as they are written: every pair of places in two lists of tokens."""

    def plain(text: str) -> str:
        return "".join(c for c in text.lower() if c not in DROPPED)

    def tokens(text: str) -> list[str]:
        found = [""]
        for c in plain(text):
            if c == "=" or any(first <= ord(c) <= last for first, last in BLOCKS):
                found += [c, ""]
            else:
                found[-1] += c
        return [token for token in found if token]

    def f1(one: list[str], two: list[str]) -> float:
        spans = [one[i:j] for i in range(len(one)) for j in range(i + 1, len(one) + 1)]
        common = max((len(s) for s in spans for k in range(len(two)) if two[k : k + len(s)] == s), default=0)
        return 2 * common / (len(one) + len(two)) if common else 0.0

    exact = float(any(plain(answer) == plain(prediction) for answer in answers))
    return exact, max(f1(tokens(answer), tokens(prediction)) for answer in answers)


@pytest.mark.parametrize(
    ("answer", "prediction", "em", "f1"),
    [
        ("热带气候", "热带 气候", 0.0, 4 / 9),  # a blank is a token between others: 热带 | blank | 气候
        ("《红楼梦》", "红楼梦。", 1.0, 1.0),
        ("2 kg左右", "2 KG左右", 1.0, 1.0),
        ("2 kg左右", "2kg左右", 0.0, 2 / 3),  # a run is one token, its blank too
        ("等…", "等", 0.0, 2 / 3),
        ("1=2", "=", 0.0, 0.5),
        ("。", "，", 1.0, 0.0),
        ("北京", "", 0.0, 0.0),
    ],
)
def test_scores_of_single_pairs(answer: str, prediction: str, em: float, f1: float) -> None:
    assert DureaderScorer({"q": [answer]}).em_f1("q", prediction) == (em, pytest.approx(f1))
    assert by_hand([answer], prediction) == (em, pytest.approx(f1))


def test_metric_equals_the_published_rules_on_random_texts() -> None:
    draw = random.Random(0)
    alphabet = "甲乙丙㐀𠀀豈abA1 =-…，。:_（“|\t"

    def text() -> str:
        return "".join(draw.choices(alphabet, k=draw.randrange(9)))

    for _ in range(1000):
        answers, prediction = [text() for _ in range(draw.randint(1, 3))], text()
        expected = by_hand(answers, prediction)
        assert DureaderScorer({"q": answers}).em_f1("q", prediction) == pytest.approx(expected), (answers, prediction)


def test_only_the_words_no_answer_are_right_where_there_is_none() -> None:
    gold = {"a": ["北京"], "b": ["", "上海"], "c": []}
    scorer = ChecklistScorer(gold, {"b", "c"}, {"a": "vocab", "b": "vocab", "c": ""})
    score = scorer({"a": "北京市", "b": "No Answer", "c": ""})
    assert [score.per_example[id]["em"] for id in gold] == [0.0, 1.0, 0.0]
    assert score.per_example["a"]["f1"] == pytest.approx(0.8)
    assert score.values == pytest.approx({"em": 100 / 3, "f1": 60.0, "em_vocab": 50.0, "f1_vocab": 90.0})
    assert ChecklistScorer(gold, {"b", "c"}, {})({"a": "no answer"}).n_missing == 2


def _file(path: Path, *questions: dict[str, object]) -> Path:
    document = {"data": [{"title": "", "paragraphs": [{"context": "小猫住在北京。", "qas": questions}]}]}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_checklist_reads_both_ways_to_say_that_there_is_no_answer(tmp_path: Path) -> None:
    task = get_task("dureader_checklist")
    place = {"text": "北京", "answer_start": 4}
    file = _file(
        tmp_path / "dev.json",
        {"id": "a", "question": "哪里？", "answers": [place], "is_impossible": False, "type": "in-domain"},
        {"id": "b", "question": "几时？", "answers": [{"text": "", "answer_start": -1}], "is_impossible": True},
        {"id": "c", "question": "谁？", "answers": [], "is_impossible": True, "type": "vocab"},
        {"id": "d", "question": "谁？", "answers": [place], "is_impossible": True},
        {"id": "e", "question": "谁？", "answers": [], "is_impossible": False},
    )
    examples, report = task.read(file)
    nothing = (Answer("no answer", kind="unknown"),)
    assert [task.targets(example) for example in examples] == [(Answer("北京", 4, 6),), nothing, nothing, nothing, ()]
    assert report.notes["impossible_with_answers"] == ["d"] and report.notes["possible_without_answers"] == ["e"]
    assert "answer_empty" not in report.notes
    with pytest.raises(DataError, match=r"1 of 5 questions have no gold answer \(first: e\)"):
        task.scorer(examples)
    values = task.score(examples[:4], {"a": "北京", "b": "no answer", "c": "no answer", "d": "北京"}).values
    assert (values["em"], values["em_in-domain"], values["f1_vocab"]) == (75.0, 100.0, 100.0)
    # What the model answers where there is nothing is what the metric takes for that.
    assert task.problem.texts == {"unknown": "no answer"} and len(task.problem.head.outputs) == 2


def test_robust_is_scored_over_all_articles() -> None:
    task = get_task("dureader_robust")
    examples = [Example(id, "?", "北京", (Answer("北京", 0, 2),), group=id) for id in "ab"]
    assert task.score(examples, {"b": "北京"}).values == {"em": 50.0, "f1": 50.0}
