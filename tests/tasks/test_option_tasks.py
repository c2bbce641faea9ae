"""C3, CHID and CMRC2019 as tasks: what they score, against counts by other means, and their official forms."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from experiment.io.predictions import read_predictions
from preprocess.base.errors import DataError
from preprocess.types import Answer, Example
from tasks.core.discovery import get_task
from tasks.core.task import TaskOptions
from tasks.metrics.choice import AccuracyScorer
from tasks.metrics.cmrc2019 import PassageScorer

N_CASES = 1000


def _blank(passage: str, number: int, options: tuple[str, ...], right: int) -> Example:
    answer = Answer(options[right], kind="option")
    return Example(f"{passage}-{number}", f"[BLANK{number}]", "", (answer,), passage, options=options)


def test_accuracy_is_told_of_each_half_that_is_there() -> None:
    task = get_task("c3")
    options = ("甲", "乙")
    examples = [
        Example(f"{domain}-{i}", "", "", (Answer("甲"),), extra={"domain": domain}, options=options)
        for domain, n in (("m", 3), ("d", 1))
        for i in range(n)
    ]
    score = task.score(examples, {"m-0": "甲", "m-1": "乙", "d-0": "甲", "x": "甲"})
    assert score.values == {"accuracy": 50.0, "accuracy_m": pytest.approx(100 / 3), "accuracy_d": 100.0}
    assert (score.n, score.n_missing) == (4, 1)
    assert score.per_example["m-2"] == {"accuracy": 0.0}
    assert set(task.score(examples[:3], {}).values) == {"accuracy", "accuracy_m"}


def test_accuracy_is_that_of_a_count_by_hand() -> None:
    draw = random.Random(1)
    for case in range(N_CASES):
        gold = {str(i): draw.choice("甲乙丙") for i in range(draw.randint(1, 12))}
        part = frozenset(id for id in gold if draw.random() < 0.5)
        predictions = {id: draw.choice("甲乙丙") for id in gold if draw.random() < 0.8}
        score = AccuracyScorer(gold, {"p": part})(predictions)
        right = [id for id, text in gold.items() if predictions.get(id) == text]
        assert score.values["accuracy"] == pytest.approx(100 * len(right) / len(gold)), case
        assert ("accuracy_p" in score.values) == bool(part)
        if part:
            assert score.values["accuracy_p"] == pytest.approx(100 * len(part & set(right)) / len(part))
        assert score.n_missing == len(gold) - len(predictions)


def _official_score(gold: dict[str, list[int]], predictions: dict[str, list[Any]]) -> tuple[float, float]:
    """Count as the rules of CMRC2019 say, from lists of indices."""
    right, passages_right = 0, 0
    for passage, answers in gold.items():
        given = predictions.get(passage, [])
        hits = len([1 for answer, found in zip(answers, given, strict=False) if str(answer) == str(found)])
        own = hits - max(0, len(answers) - len(given)) if passage in predictions else 0
        own = max(own, 0)
        right += own
        passages_right += own == len(answers)
    return 100 * right / sum(map(len, gold.values())), 100 * passages_right / len(gold)


def test_blanks_and_passages_are_counted_as_the_official_program_does() -> None:
    draw, task = random.Random(2), get_task("cmrc2019")
    for case in range(N_CASES):
        gold, predictions, examples = {}, {}, []
        for p in range(draw.randint(1, 4)):
            options = tuple(f"{i}" for i in range(draw.randint(1, 6)))
            answers = [draw.randrange(len(options)) for _ in range(draw.randint(1, 5))]
            gold[f"P{p}"] = answers
            examples += [_blank(f"P{p}", n, options, right) for n, right in enumerate(answers, start=1)]
            if draw.random() < 0.9:
                given: list[Any] = [a if draw.random() < 0.6 else draw.randrange(-1, 8) for a in answers]
                given = draw.choice((given, [str(index) for index in given]))
                predictions[f"P{p}"] = draw.choice((given, given[: draw.randint(0, len(given))], [*given, 0]))
        assert task.from_official is not None
        score = task.score(examples, task.from_official(examples, predictions))
        if not any(predictions.values()):
            continue
        qac, pac = _official_score(gold, predictions)
        assert (score.values["qac"], score.values["pac"]) == (pytest.approx(qac), pytest.approx(pac)), case
        n_given = sum(min(len(predictions.get(p, ())), len(answers)) for p, answers in gold.items())
        assert score.n_missing == sum(map(len, gold.values())) - n_given


def test_a_missing_prediction_costs_its_passage_a_right_one() -> None:
    score = PassageScorer({"p": {"1": "甲", "2": "乙", "3": "丙"}, "q": {"4": "丁"}})
    assert score({"1": "甲", "2": "乙", "4": "丁"}).values == {"qac": 50.0, "pac": 50.0}
    assert score({"3": "丙"}).values == {"qac": 0.0, "pac": 0.0}
    assert score({"3": "丙"}).per_example["3"] == {"qac": 1.0}
    with pytest.raises(DataError, match="no blank to score"):
        PassageScorer({})


def test_official_predictions_are_indices_and_are_read_back() -> None:
    cmrc, chid = get_task("cmrc2019"), get_task("chid")
    assert cmrc.official and cmrc.from_official and chid.official and chid.from_official
    # The first of equal candidates stands for both; an answer's place is the blank's number, in any order.
    blanks = [_blank("P", 2, ("甲", "乙", "甲"), 2), _blank("P", 1, ("甲", "乙", "甲"), 1)]
    assert cmrc.official(blanks, {"P-1": "乙", "P-2": "甲"}) == {"P": [1, 0]}
    assert cmrc.official(blanks, {"P-2": "丁"}) == {"P": [-1, -1]}
    assert cmrc.from_official(blanks, {"P": [1, 2], "X": [0]}) == {"P-1": "乙", "P-2": "甲", "X": ""}
    assert cmrc.from_official(blanks, {"P": [5]}) == {"P-1": ""}
    texts = {"P-1": "乙", "P-2": "甲"}
    assert cmrc.from_official(blanks, texts) == texts and cmrc.from_official(blanks, [1]) == [1]
    idiom = Example("#idiom1#", "#idiom1#", "", (Answer("乙"),), "3", options=("甲", "乙"))
    assert chid.official([idiom], {"#idiom1#": "乙"}) == {"#idiom1#": 1} and chid.official([idiom], {}) == {}
    assert chid.from_official([idiom], {"#idiom1#": 1, "x": 2}) == {"#idiom1#": "乙", "x": 2}
    assert chid.score([idiom], chid.from_official([idiom], {"#idiom1#": 1})).values == {"accuracy": 100.0}
    assert chid.from_official([idiom], {"#idiom1#": "1"}) == {"#idiom1#": "乙"}


def test_what_is_no_index_is_not_taken_for_a_wrong_one(tmp_path: Path) -> None:
    cmrc, chid, path = get_task("cmrc2019"), get_task("chid"), tmp_path / "p.json"
    blanks = [_blank("P", n, ("甲", "乙"), 0) for n in (1, 2)]
    idiom = Example("#idiom1#", "#idiom1#", "", (Answer("乙"),), "3", options=("甲", "乙"))
    for task, examples, found in (
        (cmrc, blanks, {"P": [None, 1]}),
        (cmrc, blanks, {"P": [True, 1]}),
        (cmrc, blanks, {"P": [1], "Q": None}),
        (cmrc, blanks, {"P": {"1": 0}}),
        (cmrc, blanks, {"P-1": [0]}),
        (chid, [idiom], {"#idiom1#": None}),
        (chid, [idiom], {"#idiom1#": True}),
        (chid, [idiom], {"#idiom1#": [1]}),
    ):
        path.write_text(json.dumps(found))
        with pytest.raises(DataError, match="1 answers are neither texts nor numbers"):
            read_predictions(path, task, examples)
    # Texts of some blanks beside indices of others; a text among indices.
    path.write_text(json.dumps({"P": [1], "P-2": "甲"}))
    assert read_predictions(path, cmrc, blanks) == {"P-1": "乙", "P-2": "甲"}
    path.write_text(json.dumps({"P": ["乙", 0]}))
    assert read_predictions(path, cmrc, blanks) == {"P-1": "乙", "P-2": "甲"}
    path.write_text(json.dumps({"P-1": 1, "P-2": "0"}))
    assert read_predictions(path, cmrc, blanks) == {"P-1": "乙", "P-2": "甲"}


@pytest.mark.parametrize("name", ["chid", "cmrc2019"])
def test_assignment_is_a_choice_that_the_version_names(name: str) -> None:
    task = get_task(name)
    assert get_task(name, TaskOptions(assignment="independent")) is task
    together = get_task(name, TaskOptions(assignment="one_to_one"))
    assert together.version == "2+one_to_one" and together.problem.one_to_one and not task.problem.one_to_one  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="--assignment 'best': expected independent or one_to_one"):
        get_task(name, TaskOptions(assignment="best"))
    with pytest.raises(DataError, match="task 'c3' has no option --assignment"):
        get_task("c3", TaskOptions(assignment="one_to_one"))


@pytest.mark.realdata
def test_the_answers_of_published_files_score_full_marks(data_dir: Path) -> None:
    extra = data_dir / "extra"
    for name, file in (("c3", "c3/c3-m-dev.json"), ("cmrc2019", "cmrc2019/cmrc2019_dev.json")):
        task = get_task(name)
        examples, _ = task.read(extra / file)
        score = task.score(examples, {example.id: task.targets(example)[0].text for example in examples})
        assert set(score.values.values()) == {100.0}
    published = json.loads((extra / "cmrc2019" / "cmrc2019_dev.json").read_text("utf-8"))["data"]
    right = {passage["context_id"]: passage["answers"] for passage in published}
    assert task.from_official is not None and task.official is not None
    texts = task.from_official(examples, right)
    assert task.score(examples, texts).values == {"qac": 100.0, "pac": 100.0}
    assert task.official(examples, texts) == right
