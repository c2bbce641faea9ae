"""MLQA-zh: its normalisation of Chinese, and the metric over it."""

from __future__ import annotations

import random
import string
import unicodedata
from collections import Counter

import pytest

from preprocess.base.errors import DataError
from preprocess.types import Answer, Example
from tasks.core.discovery import get_task
from tasks.metrics.mlqa import normalise


def words(text: str) -> list[str]:
    """Follow the published rules character by character."""
    found = [""]
    for c in text.lower():
        if c in string.punctuation or unicodedata.category(c).startswith("P"):
            continue
        if "\u4e00" <= c <= "\u9fa5":
            found += [c, ""]
        elif c.isspace():
            found.append("")
        else:
            found[-1] += c
    return [word for word in found if word]


def by_hand(answers: list[str], prediction: str) -> tuple[float, float]:
    own, f1 = words(prediction), 0.0
    for gold in map(words, answers):
        common = sum((Counter(gold) & Counter(own)).values())
        f1 = max(f1, 2 * common / (len(gold) + len(own)) if common else 0.0)
    return float(any(words(answer) == own for answer in answers)), f1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("《New York》纽约市，1,000.5元", "new york 纽 约 市 10005 元"),
        ("$5 + 5％", "5 5"),
        ("かな漢字·〇", "かな 漢 字 〇"),  # the middle dot is punctuation, 〇 is outside the block
        ("The a an", "the a an"),  # Chinese has no articles
    ],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalise(text) == expected == " ".join(words(text))


def test_metric_equals_the_published_rules_on_random_texts() -> None:
    draw, scorer = random.Random(1), get_task("mlqa_zh").scorer
    alphabet = "甲乙丙丁ab AB1，。·$-+…〇か\u3000"

    def text() -> str:
        return "".join(draw.choices(alphabet, k=draw.randrange(9)))

    for _ in range(1000):
        answers, prediction = [text() for _ in range(draw.randint(1, 3))], text()
        example = Example("q", "?", "", tuple(map(Answer, answers)))
        scores = scorer([example])({"q": prediction}).per_example["q"]
        assert (scores["em"], scores["f1"]) == pytest.approx(by_hand(answers, prediction)), (answers, prediction)


def test_a_question_without_an_answer_can_not_be_scored() -> None:
    with pytest.raises(DataError, match="this metric knows no unanswerable questions"):
        get_task("mlqa_zh").scorer([Example("q", "?", "甲")])
