"""The metrics of CJRC: the official scorer of CAIL2019, and that of the reference system."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from experiment.commands.evaluate import evaluate
from experiment.options.flags import EvaluateOptions
from preprocess.base.errors import DataError
from tasks.metrics.cjrc import CjrcScorer, bag_f1, leave_one_out, normalise, rounded

PREDICTION_FILES = ["cjrc_dev.s1.n000", "cjrc_dev.s2.n025", "cjrc_dev.s3.n075.miss"]


def load(path: Path) -> Any:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return json.load(file)


def em_f1(answers: list[str], prediction: object) -> tuple[float, float]:
    return CjrcScorer({"q": answers}, {}).em_f1("q", prediction)


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("1,000.50元", "100050元"),
        ("YES.", "yes"),
        ("½Ⅳ×、㎡", ""),
        ("①１²", "①１²"),
        ("张x7", "张x7"),
        (2018, "2018"),
        ("𠮷 野", "𠮷野"),
    ],
)
def test_only_letters_and_digits_count(text: object, counted: str) -> None:
    assert normalise(text) == counted


def test_f1_is_of_bags_of_characters() -> None:
    assert bag_f1("北京大学在北京", "在北京北京大学") == 1.0
    assert bag_f1("北京北京", "北京") == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert bag_f1("甲", "乙") == bag_f1("甲", "") == bag_f1("", "甲") == 0.0
    assert bag_f1("", "") == 1.0


def test_each_answer_is_left_out_once() -> None:
    # Leaving out the first of 甲 乙 丙, the best of the others fails; leaving out another leaves 甲.
    assert em_f1(["甲", "乙", "丙"], "甲") == (2 / 3, 2 / 3)
    assert em_f1(["甲", "甲", "丙"], "甲") == (1.0, 1.0)
    assert em_f1(["甲"], "甲") == (1.0, 1.0)
    assert em_f1([], "") == em_f1([""], "。") == (1.0, 1.0)
    assert leave_one_out([0.5, 1.0, 0.25]) == pytest.approx((1.0 + 0.5 + 1.0) / 3)


def test_leave_one_out_equals_its_definition() -> None:
    for scores in itertools.product((0.0, 0.5, 1.0), repeat=4):
        others = [max(scores[:place] + scores[place + 1 :]) for place in range(4)]
        assert leave_one_out(scores) == pytest.approx(sum(others) / 4)


def test_bag_f1_equals_counters() -> None:
    for a, b in itertools.product(map("".join, itertools.product("甲乙丙", repeat=3)), ("甲甲乙", "丙", "甲乙丙甲")):
        common = (Counter(a) & Counter(b)).total()
        assert bag_f1(a, b) == pytest.approx(2 * common / (len(a) + len(b)))


@pytest.mark.parametrize(("value", "printed"), [(92.25, 92.3), (92.35, 92.3), (0.05, 0.1), (79.449999, 79.4)])
def test_rounding_is_that_of_python_2(value: float, printed: float) -> None:
    # 92.25 is a half and goes up; 92.35 and 0.05 are stored a little below and above one.
    assert rounded(value) == printed


def test_domains_are_scored_apart_and_ranked_by_their_mean() -> None:
    gold = {"a": ["甲"] * 3, "b": ["乙"] * 3, "c": ["丙"] * 3}
    score = CjrcScorer(gold, {"a": "civil", "b": "civil", "c": "criminal"})({"a": "甲", "b": "丁", "c": "丙"})
    values = score.values
    assert (values["em"], values["em_rounded"]) == (pytest.approx(200 / 3), 66.7)
    assert (values["em_civil"], values["em_criminal"], values["f1_criminal_rounded"]) == (50.0, 100.0, 100.0)
    assert values["f1_civil_criminal_mean"] == 75.0
    assert score.per_example["b"] == {"em": 0.0, "f1": 0.0, "reference_em": 0.0, "reference_f1": 0.0}


def test_question_without_a_known_domain_counts_overall_only() -> None:
    score = CjrcScorer({"a": ["甲"], "b": ["乙"], "c": ["丙"]}, {"a": "civil", "b": "tax"})({"a": "甲", "b": "乙"})
    assert score.values["em"] == pytest.approx(200 / 3) and score.values["em_civil"] == 100.0
    assert not {"em_criminal", "f1_criminal", "f1_civil_criminal_mean"} & set(score.values)


def test_missing_predictions_score_zero_but_do_not_count_in_the_accuracies() -> None:
    gold = {"a": ["YES", "YES", "NO"], "b": ["YES"] * 3, "c": [], "d": ["", "", "甲"], "e": ["", "", ""]}
    score = CjrcScorer(gold, {})({"a": "YES", "c": "", "d": "", "e": "甲", "x": "甲"})
    assert (score.n, score.n_missing) == (5, 1)
    # Per answer: a gives two right YES and one wrong NO. Per question: c right, e wrong; d has a text among its gold.
    assert [score.values[f"{kind}_accuracy"] for kind in ("yes", "no", "unknown")] == [100.0, 0.0, 50.0]
    assert score.values["em"] == pytest.approx(100 * (1 + 0 + 1 + 1 + 0) / 5)
    # An empty answer is exact and has no token in common with itself.
    assert (score.per_example["c"]["reference_em"], score.per_example["c"]["reference_f1"]) == (1.0, 0.0)


def test_kinds_that_the_gold_does_not_hold_are_left_out() -> None:
    values = CjrcScorer({"a": ["甲"]}, {})({"a": "YES"}).values
    assert not [name for name in values if name.endswith("accuracy")]


def test_empty_gold_is_refused() -> None:
    with pytest.raises(DataError, match="no question to score"):
        CjrcScorer({}, {})


@pytest.mark.golden
def test_single_pairs_equal_the_official_script(golden_dir: Path) -> None:
    for case in load(golden_dir / "metrics" / "edge_cases.json"):
        expected = case["cjrc"]["em"], pytest.approx(case["cjrc"]["f1"], abs=1e-9)
        assert em_f1(case["answers"], case["prediction"]) == expected, case


@pytest.mark.golden
@pytest.mark.parametrize("name", PREDICTION_FILES)
def test_evaluate_equals_both_original_programs(golden_dir: Path, tmp_path: Path, name: str) -> None:
    predictions = load(golden_dir / "metrics" / "pred" / f"{name}.json.gz")
    gold = load(golden_dir / "metrics" / "gold" / "cjrc_dev.json.gz")
    expected = load(golden_dir / "metrics" / "scores.json")[name]
    # The official program reads a list, the reference system an object.
    score = run_evaluate(tmp_path, gold, [{"id": id, "answer": text} for id, text in predictions.items()])
    for domain, suffix in (("overall", ""), ("civil", "_civil"), ("criminal", "_criminal")):
        for metric in ("em", "f1"):
            unrounded = expected["cjrc_official_py2"][domain][metric]
            assert score.values[metric + suffix] == pytest.approx(unrounded, abs=1e-6)
            assert score.values[f"{metric}{suffix}_rounded"] == expected["cjrc_official_py2_printed"][domain][metric]
    f1 = [expected["cjrc_official_py2"][domain]["f1"] for domain in ("civil", "criminal")]
    assert score.values["f1_civil_criminal_mean"] == pytest.approx(sum(f1) / 2, abs=1e-6)
    per_question = load(golden_dir / "metrics" / "perq" / f"{name}.json.gz")
    for key, prefix in (("cjrc", ""), ("seed_negall", "reference_")):
        for question, (em, f1) in per_question[key].items():
            ours = score.per_example[question]
            assert ours[f"{prefix}em"] == pytest.approx(em, abs=1e-12), question
            assert ours[f"{prefix}f1"] == pytest.approx(f1, abs=1e-9), question

    # The reference system could not score the official file; its gold was changed in one of two ways.
    assert_reference(score, expected["seed_evaluate2_negall"])
    assert_reference(run_evaluate(tmp_path, negall(gold), predictions), expected["seed_evaluate2_negall"])
    assert_reference(run_evaluate(tmp_path, neg1(gold), predictions), expected["seed_evaluate2_neg1"])


def run_evaluate(folder: Path, gold: Any, predictions: Any) -> Any:
    for file, value in (("gold.json", gold), ("predictions.json", predictions)):
        (folder / file).write_text(json.dumps(value), "utf-8")
    options = EvaluateOptions(task="cjrc", data_file=folder / "gold.json", predictions=folder / "predictions.json")
    return evaluate(options)


def assert_reference(score: Any, expected: dict[str, float]) -> None:
    names = {"EM": "reference_em", "F1": "reference_f1", "AVERAGE": "reference_average"}
    names |= {"YES": "yes_accuracy", "NO": "no_accuracy", "UNK": "unknown_accuracy"}
    assert {key: score.values[name] for key, name in names.items()} == {
        key: pytest.approx(expected[key], abs=1e-6) for key in names
    }
    assert (score.n, score.n_missing) == (expected["TOTAL"], expected["SKIP"])


def negall(gold: Any) -> Any:
    return with_answers(gold, lambda answers: answers if any(answer["text"] for answer in answers) else [])


def neg1(gold: Any) -> Any:
    return with_answers(gold, lambda answers: answers[:1] if answers[0]["text"] else [])


def with_answers(gold: Any, change: Any) -> Any:
    changed = json.loads(json.dumps(gold))
    for article in changed["data"]:
        for qa in article["paragraphs"][0]["qas"]:
            qa["answers"] = change(qa["answers"])
    return changed
