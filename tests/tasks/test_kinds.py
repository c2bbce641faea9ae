"""The report on kinds is scikit-learn's, to the last digit and letter, without scikit-learn."""

from __future__ import annotations

import random
import re

import pytest

from tasks.metrics.kinds import kind_report

NAMES = ("span", "yes", "no", "a kind with a long name")


@pytest.mark.parametrize("seed", range(12))
def test_report_equals_that_of_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    draw = random.Random(seed)
    n = draw.choice([1, 3, 40, 200])
    # A third of the cases predict what is no kind: then there is no accuracy, but an average over all.
    said = [*NAMES[: 2 + seed % 3], *(["something else"] if seed % 3 == 0 else [])]
    gold = {str(i): draw.choice(NAMES[: 1 + seed % 4]) for i in range(n)}
    predicted = {str(i): draw.choice(said) for i in range(n)}
    pairs = list(gold.values()), list(predicted.values())
    options = {"labels": list(NAMES), "zero_division": 0.0}
    report = kind_report(gold, predicted, NAMES)
    assert report["classification"] == metrics.classification_report(*pairs, output_dict=True, **options)
    assert report["confusion"] == metrics.confusion_matrix(*pairs, labels=list(NAMES)).tolist()
    printed = metrics.classification_report(*pairs, digits=3, **options).splitlines()
    # Where every prediction is of no kind, scikit-learn prints numbers of questions as "3.0".
    printed = [re.sub(r"  (\d+)\.0$", r"    \1", line) for line in printed if line.strip()]
    assert report["lines"][2 + len(NAMES) : -1] == printed


def test_questions_without_a_prediction_are_counted_apart():
    report = kind_report({"a": "yes", "b": "no"}, {"z": "no"}, ("yes", "no"))
    assert report["classification"] == {} and report["n_missing"] == 2 and report["confusion"] == [[0, 0], [0, 0]]
    assert report["lines"][-1] == "without a prediction: 2"
