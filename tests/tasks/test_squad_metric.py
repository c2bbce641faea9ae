"""The official SQuAD metrics: the rules by hand, and every golden score of the two original programs."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from preprocess.base.errors import DataError
from tasks.core.discovery import get_task
from tasks.core.prediction import Score
from tasks.metrics.squad import SquadScorer, SquadV2Scorer, normalise

GOLDEN = {
    "cmrc_trial": ("cmrc_trial.s1.n000", "cmrc_trial.s2.n030", "cmrc_trial.s3.n060.miss", "cmrc_trial.s4.n100"),
    "cmrc_dev": ("cmrc_dev.s1.n025", "cmrc_dev.s2.n075.miss"),
    "drcd_dev": ("drcd_dev.s1.n025", "drcd_dev.s2.n075.miss"),
    "cjrc_dev": ("cjrc_dev.s1.n000", "cjrc_dev.s2.n025", "cjrc_dev.s3.n075.miss"),
}
SYNTHETIC = ("squad_synth.s1", "squad_synth.s2", "squad_synth.s3")


def score_squad(gold: dict[str, Any], predictions: dict[str, Any]) -> Score:
    return SquadScorer(gold)(predictions)


def score_squad_v2(gold: dict[str, Any], *arguments: Any) -> Score:
    return SquadV2Scorer(gold)(*arguments)


def load(path: Path) -> Any:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return json.load(file)


def official(score: Score) -> dict[str, float]:
    """The values under the names of the original programs."""
    names = {"em": "exact", "HasAns_em": "HasAns_exact", "NoAns_em": "NoAns_exact", "pr_em_ap": "pr_exact_ap"}
    names |= {"best_em": "best_exact", "best_em_thresh": "best_exact_thresh"}
    return {names.get(name, name): value for name, value in score.values.items()}


def without_totals(golden: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in golden.items() if not name.endswith("total")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat's\tmat.", "cats mat"),
        ("A-list", "alist"),
        ("an apple a day", "apple day"),
        ("Theatre", "theatre"),
        ("the", ""),
        ("“quoted”", "“quoted”"),
        ("the北京", "the北京"),
        ("cat—the—dog", "cat— —dog"),
        ("北京，the 上海", "北京， 上海"),
        ("a\u00a0b\u3000c", "b c"),
        (20.5, "205"),
        ("", ""),
    ],
)
def test_normalisation_drops_case_ascii_punctuation_articles_and_blanks(text: object, expected: str) -> None:
    assert normalise(text) == expected


def test_f1_is_of_bags_of_words_and_the_best_over_the_answers() -> None:
    # "red red fish" and "red red red boat" share two reds: P = 2/4, R = 2/3.
    score = score_squad({"q": ["red red fish", "whale"]}, {"q": "Red red, red boat"})
    assert score.values == {"em": 0.0, "f1": pytest.approx(100 * 4 / 7)}
    assert score_squad({"q": ["whale", "the blue whale"]}, {"q": "Blue whale!"}).values == {"em": 100.0, "f1": 100.0}


def test_answer_of_articles_only_matches_with_f1_zero_in_v1_and_one_in_v2() -> None:
    assert score_squad({"q": ["The"]}, {"q": "a"}).values == {"em": 100.0, "f1": 0.0}
    assert score_squad_v2({"q": ["The"]}, {"q": "a"}).values["f1"] == 100.0


def test_v2_uses_an_answer_of_articles_only_where_there_is_no_other() -> None:
    assert score_squad_v2({"q": ["The", "cat"]}, {"q": ""}).values["em"] == 0.0
    assert score_squad({"q": ["The", "cat"]}, {"q": ""}).values["em"] == 100.0


def test_unanswerable_question_wants_a_prediction_that_is_empty_when_normalised() -> None:
    score = score_squad_v2({"a": [], "b": [], "c": ["cat"]}, {"a": "the!", "b": "dog", "c": "cat"})
    assert score.values["NoAns_em"] == score.values["NoAns_f1"] == 50.0
    assert score.values["HasAns_em"] == score.values["HasAns_f1"] == 100.0
    assert score.values["em"] == pytest.approx(200 / 3)
    assert score.per_example["b"] == {"em": 0.0, "f1": 0.0}


def test_groups_without_questions_have_no_values() -> None:
    assert set(score_squad_v2({"a": ["x"]}, {}).values) == {"em", "f1", "HasAns_em", "HasAns_f1"}
    assert set(score_squad_v2({"a": []}, {}).values) == {"em", "f1", "NoAns_em", "NoAns_f1"}


def test_missing_predictions_are_wrong_and_counted() -> None:
    score = score_squad({"a": ["x"], "b": ["y"]}, {"a": "x", "other": "z"})
    assert (score.values, score.n, score.n_missing) == ({"em": 50.0, "f1": 50.0}, 2, 1)
    # An unanswerable question, too: no prediction is not the prediction that there is no answer.
    score = score_squad_v2({"a": ["x"], "b": [], "c": []}, {"b": ""})
    assert (score.values["em"], score.values["HasAns_em"], score.values["NoAns_em"]) == (
        pytest.approx(100 / 3),
        0,
        50,
    )
    assert (score.n, score.n_missing) == (3, 2)


def test_predictions_that_are_no_text_are_scored_as_text() -> None:
    assert score_squad({"a": ["2018"]}, {"a": 2018}).values["em"] == 100.0


def test_gold_without_answers_is_refused_by_v1_with_the_questions_named() -> None:
    gold: dict[str, list[str]] = {"a": ["x"], "b": [], "c": [], "d": [], "e": []}
    with pytest.raises(DataError, match=r"4 of 5 questions have no gold answer \(b, c, d, …\).*squad_v2"):
        score_squad(gold, {})
    for score in (score_squad, score_squad_v2):
        with pytest.raises(DataError, match="no question to score"):
            score({}, {})


def test_na_probs_above_the_threshold_make_a_prediction_empty() -> None:
    gold = {"a": ["x"], "b": []}
    predictions, na_probs = {"a": "x", "b": "y"}, {"a": 0.5, "b": 0.6}
    assert score_squad_v2(gold, predictions, na_probs, 0.5).values["em"] == 100.0
    assert score_squad_v2(gold, predictions, na_probs, 0.4).values["em"] == 50.0
    assert score_squad_v2(gold, predictions, na_probs).values["em"] == 50.0


def test_best_threshold_is_the_entry_of_the_last_prediction_that_counts() -> None:
    gold = {"a": ["x"], "b": [], "c": ["z"], "d": []}
    predictions = {"a": "x", "b": "y", "c": "z", "d": "w"}
    na_probs = {"d": 0.9, "c": 0.3, "b": 0.2, "a": 0.1}
    values = score_squad_v2(gold, predictions, na_probs).values
    # Answering nothing gives 2 of 4; a gains one, b loses it, c gains it again: the first best counts.
    assert (values["best_em"], values["best_em_thresh"]) == (75.0, 0.1)
    # Precision over recall: 1 up to recall 1/2, then 2/3 at recall 1; the oracle finds the same.
    assert values["pr_em_ap"] == pytest.approx(100 * (0.5 + 0.5 * 2 / 3)) == values["pr_oracle_ap"]


def test_best_values_are_kept_where_no_answer_is_best() -> None:
    values = score_squad_v2({"a": []}, {"a": "y"}, {"a": 0.1}).values
    assert (values["best_em"], values["best_em_thresh"]) == (100.0, 0.0)
    assert "pr_em_ap" not in values


def test_equal_na_probs_share_one_point_of_the_precision_recall_curve() -> None:
    gold = {"a": ["x"], "b": []}
    values = score_squad_v2(gold, {"a": "x", "b": "y"}, {"a": 0.5, "b": 0.5}).values
    assert values["pr_em_ap"] == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("na_probs", "message"),
    [
        ({"b": 0.1}, r"1 of 1 predicted questions have no entry .*\(a\)"),
        ({"a": "x"}, r"1 no-answer probabilities are not numbers \(a\)"),
        ({"a": math.nan}, "are not numbers"),
    ],
)
def test_na_probs_that_can_not_be_used_are_refused(na_probs: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        score_squad_v2({"a": ["x"]}, {"a": "x"}, na_probs)


@pytest.mark.golden
@pytest.mark.parametrize("data", GOLDEN)
def test_scores_equal_the_original_programs(golden_dir: Path, tmp_path: Path, data: str) -> None:
    file = tmp_path / "gold.json"
    document = load(golden_dir / "metrics" / "gold" / f"{data}.json.gz")
    file.write_text(json.dumps(document), "utf-8")
    scorers = {"squad_v2": get_task("squad_v2").scorer(get_task("squad_v2").read(file)[0])}
    if data == "cjrc_dev":
        scorers = {"squad_v2_official_file": scorers["squad_v2"]}
        for article in document["data"]:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    qa["answers"] = qa["answers"] if any(answer["text"] for answer in qa["answers"]) else []
        file.write_text(json.dumps(document), "utf-8")
        scorers["squad_v2_negall"] = get_task("squad_v2").scorer(get_task("squad_v2").read(file)[0])
    else:
        scorers["squad_v1.1"] = get_task("squad").scorer(get_task("squad").read(file)[0])
    expected = load(golden_dir / "metrics" / "scores.json")
    for name in GOLDEN[data]:
        predictions = load(golden_dir / "metrics" / "pred" / f"{name}.json.gz")
        golden = {key: value for key, value in expected[name].items() if key.startswith("squad")}
        assert golden.keys() == scorers.keys()
        for key, scorer in scorers.items():
            score = scorer(predictions)
            if "error" in golden[key]:  # v2.0 has no score where a prediction is missing
                assert score.n_missing > 0 and 0.0 < score.values["em"] < 100.0
                continue
            values = {"exact_match": score.values["em"], "f1": score.values["f1"]}
            values = values if key == "squad_v1.1" else official(score)
            assert values == pytest.approx(without_totals(golden[key]), abs=1e-9)
            assert score.n == golden[key].get("total", score.n)


@pytest.mark.golden
@pytest.mark.parametrize("name", SYNTHETIC)
def test_synthetic_scores_with_thresholds_equal_the_original_programs(golden_dir: Path, name: str) -> None:
    directory = golden_dir / "metrics" / "squad_synth"
    golden = load(directory / "scores.json")[name]
    predictions, na_probs = load(directory / f"{name}.json"), load(directory / f"{name}.na_prob.json")
    examples, _ = get_task("squad_v2").read(directory / "gold_v2.json")
    gold = {example.id: [answer.text for answer in example.answers] for example in examples}
    answerable = {question: answers for question, answers in gold.items() if answers}

    plain = official(score_squad_v2(gold, predictions))
    assert plain == pytest.approx(without_totals(golden["v2_no_na_prob"]), abs=1e-9)
    curves = without_totals(golden["v2_na_prob_thresh_0.5_pr_curves"])
    assert official(score_squad_v2(gold, predictions, na_probs, 0.5)) == pytest.approx(curves, abs=1e-9)
    assert without_totals(golden["v2_na_prob_thresh_0.5"]).items() <= curves.items()
    with pytest.raises(DataError, match="no gold answer"):
        score_squad(gold, predictions)
    v1 = score_squad(answerable, predictions).values
    expected = golden["v1.1_on_answerable_subset"]
    assert (v1["em"], v1["f1"]) == pytest.approx((expected["exact_match"], expected["f1"]), abs=1e-9)
    assert len(gold) == golden["v2_no_na_prob"]["total"]
