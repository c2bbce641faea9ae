"""Up to what score a guess may come, which no seed that has learned stays below."""

from __future__ import annotations

import random
from typing import Any

import pytest

from experiment.report.failures import failure_of
from experiment.training.record import Record
from preprocess.types import Answer, Example
from tasks.core.discovery import get_task
from tasks.core.guessing import guessing, share_guessed


def _options(n: int, n_options: int, **changes: Any) -> list[Example]:
    options = tuple(map(str, range(n_options)))
    return [Example(str(i), "?", "", (Answer("0", kind="option"),), options=options, **changes) for i in range(n)]


def _classes(*labels: str) -> list[Example]:
    return [Example(str(i), "", str(i), (Answer(label, kind="class"),)) for i, label in enumerate(labels)]


def test_options_are_drawn_and_may_be_lucky() -> None:
    examples = [*_options(150, 4), *_options(50, 2), *_options(99, 3, labelled=False)]
    assert share_guessed(examples) == pytest.approx((150 / 4 + 50 / 2) / 200)
    bar = guessing(get_task("c3"), examples)["accuracy"]
    draw = random.Random(1)
    scores = [100 * sum(draw.random() < 1 / len(e.options) for e in examples[:200]) / 200 for _ in range(2000)]
    assert 0.01 < sum(score > bar for score in scores) / len(scores) < 0.05
    assert guessing(get_task("cmrc2019"), examples) == {"qac": bar}, "no passage is guessed"
    # Equal options are one; so few questions can be guessed all.
    assert share_guessed([Example("a", "?", "", (Answer("x", kind="option"),), options=("x", "x", "y"))]) == 0.5
    assert guessing(get_task("c3"), _options(2, 2)) == {}


def test_the_commonest_class_is_right_as_often_as_it_stands_there() -> None:
    assert guessing(get_task("xnli"), _classes("a", "a", "a", "b")) == {"accuracy": 75.0}
    assert guessing(get_task("xnli"), _classes("a", "a")) == {}
    assert guessing(get_task("dbqa"), _classes("0", "1")) == {}, "a ranking is no share"
    assert share_guessed([Example("a", "?", "x", (Answer("x", 0, 1),))]) is None and share_guessed([]) is None


def test_a_seed_fails_that_scores_no_more_than_a_guess() -> None:
    facts: Any = {"task_version": "2", "model": "m", "seed": 1, "status": "finished", "config": {}, "selection": []}
    record = Record(task="c3", hashes={}, versions={}, guessing={"accuracy": 26.0}, **facts)
    for accuracy, said in ((26.0, "accuracy 26.00 on dev, a guess up to 26.00"), (26.1, ""), (100.0, "")):
        record.scores = {"dev": {"accuracy": accuracy}}
        assert failure_of(record) == said
    record.guessing = {}
    assert failure_of(record) == ""
