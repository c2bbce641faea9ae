"""Scoring prediction files: what can't be scored is refused in one line, and every choice is said."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from experiment.commands.evaluate import evaluate
from experiment.io.predictions import read_numbers, read_predictions
from experiment.options.flags import EvaluateOptions
from preprocess.base.errors import DataError


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def data(*qas: dict[str, Any]) -> dict[str, Any]:
    return {"data": [{"paragraphs": [{"context": "甲乙丙", "qas": list(qas)}]}]}


def qa(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "question": "问？", **more}


GOLD = data(
    qa("Q1", answers=[{"text": "甲", "answer_start": 0}]), qa("Q2", answers=[{"text": "乙", "answer_start": 1}])
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"Q1": "错", "Q2": "乙", "Q1": "甲"}', "the key 'Q1' twice, with the string '错' and with the string '甲'"),
        (
            [{"id": "Q1", "answer": "错"}, {"id": "Q2", "answer": "乙"}, {"id": "Q1", "answer": "甲"}],
            "'Q1' has two answers, the string '错' and the string '甲'; give one answer per question",
        ),
        ([{"id": 1, "answer": 1}, {"id": "1", "answer": True}], "'1' has two answers"),
        ({"Q1": True}, "'Q1' has the boolean True"),
        ({"Q1": None, "Q2": []}, "2 answers are neither texts nor numbers ('Q1' has nothing)"),
        ('{"Q1": NaN}', "'Q1' has the number nan"),
        ('{"Q1": -1e999}', "'Q1' has the number -inf"),
        ({"Q1": {"text": "甲"}}, "'Q1' has an object with the keys 'text'"),
        ([{"id": ["Q1"], "answer": "甲"}], "entry 1 of the list is an object with the keys 'id', 'answer'"),
        ([{"id": "Q1", "answer": "甲"}, {"id": "Q2"}], "entry 2 of the list"),
        ("[]x", "not JSON (Extra data"),
        ("7", "found the number 7; give a JSON object"),
    ],
)
def test_predictions_that_can_mean_two_things_or_nothing_are_refused(tmp_path: Path, content: Any, said: str) -> None:
    file = write(tmp_path / "p.json", content)
    with pytest.raises(DataError) as caught:
        read_predictions(file)
    assert str(caught.value).startswith(f"{file}: ") and said in str(caught.value)


def test_equal_repetitions_and_numbers_are_read_as_the_official_scorers_do(tmp_path: Path, capsys: Any) -> None:
    repeated = [{"id": "Q1", "answer": "甲"}, {"id": "Q1", "answer": "甲"}, {"id": 2, "answer": 1.50}]
    assert read_predictions(write(tmp_path / "p.json", repeated)) == {"Q1": "甲", "2": 1.5}
    gold = data(qa("Q1", answers=["2018"]), qa("Q2", answers=["1.5"]))
    options = EvaluateOptions(
        task="cmrc2018",
        data_file=write(tmp_path / "gold.json", gold),
        predictions=write(tmp_path / "p.json", {"Q1": 2018, "Q2": 1.50}),
    )
    assert evaluate(options).values["em"] == 100.0
    assert "2 predictions are numbers and scored as texts, such as 'Q1': '2018'" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0.5", True, None, "NaN", "1e999"])
def test_odds_must_be_finite_numbers(tmp_path: Path, value: Any) -> None:
    literal = value if value in ("NaN", "1e999") else json.dumps(value)
    file = write(tmp_path / "odds.json", f'{{"Q1": {literal}}}')
    with pytest.raises(DataError, match=r"odds.json: 'Q1' has .*; give a JSON object \{question id: number\}"):
        read_numbers(file)
    assert read_numbers(write(file, {"Q1": 1})) == {"Q1": 1.0}


@pytest.mark.parametrize("task", ["cmrc2018", "drcd", "cjrc", "squad", "squad_v2"])
def test_questions_without_gold_are_refused_by_every_metric(tmp_path: Path, task: str) -> None:
    # To CJRC's and SQuAD 2.0's metrics, an answer "" would be right for each of them.
    for gold, said in (
        (data(qa("Q1"), qa("Q2")), """2 of 2 questions have no "answers" ('Q1')"""),
        (data(*GOLD["data"][0]["paragraphs"][0]["qas"], qa("Q3", Answers=[])), "1 of 3 questions"),
        (data(qa("Q1", answer=[])), "'Q1': nothing (its key 'answer': did you mean 'answers'?)"),
    ):
        file = write(tmp_path / "gold.json", gold)
        predictions = write(tmp_path / "p.json", {"Q1": "", "Q2": ""})
        with pytest.raises(DataError) as caught:
            evaluate(EvaluateOptions(task=task, data_file=file, predictions=predictions))
        assert str(caught.value).startswith(f"{file}: ") and said in str(caught.value)


def test_an_empty_list_of_answers_is_gold_where_questions_may_have_none(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path / "gold.json", data(qa("Q1", answers=[]), qa("Q2", is_impossible=True)))
    predictions = write(tmp_path / "p.json", {"Q1": "", "Q2": ""})
    for task in ("cjrc", "squad_v2"):
        score = evaluate(EvaluateOptions(task=task, data_file=file, predictions=predictions))
        assert score.values["em"] == 100.0 and score.n == 2
    with pytest.raises(DataError, match=r"gold.json: 2 of 2 questions have no gold answer"):
        evaluate(EvaluateOptions(task="cmrc2018", data_file=file, predictions=predictions))


def test_odds_that_lack_a_question_name_their_file(tmp_path: Path) -> None:
    options = EvaluateOptions(
        task="squad_v2",
        data_file=write(tmp_path / "gold.json", GOLD),
        predictions=write(tmp_path / "p.json", {"Q1": "甲"}),
        na_prob_file=write(tmp_path / "odds.json", {"Q2": 0.5}),
    )
    with pytest.raises(DataError, match=r"odds.json: 1 of 1 predicted questions have no entry"):
        evaluate(options)


def test_scores_go_through_pipes_and_links(tmp_path: Path, capsys: Any) -> None:
    gold, predictions = write(tmp_path / "gold.json", GOLD), write(tmp_path / "p.json", {"Q1": "甲"})
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path / "target.json", "{}")
    (tmp_path / "link.json").symlink_to("target.json")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "fifo").read_text()), daemon=True)
    reader.start()
    for name in ("fifo", "link.json"):
        evaluate(EvaluateOptions(task="cmrc2018", data_file=gold, predictions=predictions, output=tmp_path / name))
    reader.join(10)
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode) and (tmp_path / "link.json").is_symlink()
    assert json.loads(read[0])["values"]["em"] == 50.0
    assert read[0] == (tmp_path / "target.json").read_text()
