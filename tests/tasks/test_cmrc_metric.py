"""The official CMRC2018 metric: segmentation, exact match and longest-common-substring F1."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from preprocess.base.errors import DataError
from tasks.core.prediction import Score
from tasks.metrics import segment as segmentation
from tasks.metrics.cmrc import CmrcScorer, longest_common_substring
from tasks.metrics.segment import NOT_HAN, normalise, split_words

PREDICTION_FILES = [
    "cmrc_trial.s1.n000",
    "cmrc_trial.s2.n030",
    "cmrc_trial.s3.n060.miss",
    "cmrc_trial.s4.n100",
    "cmrc_dev.s1.n025",
    "cmrc_dev.s2.n075.miss",
    "drcd_dev.s1.n025",
    "drcd_dev.s2.n075.miss",
]


def em_f1(answers: list[Any], prediction: object) -> tuple[float, float]:
    return CmrcScorer({"q": answers}).em_f1("q", prediction)


def score_cmrc(gold: dict[str, Any], predictions: dict[str, Any]) -> Score:
    return CmrcScorer(gold)(predictions)


def segment(value: object) -> list[str]:
    """Return the tokens that F1 counts; the scorer itself never makes a list of them."""
    tokens: list[str] = []
    end = 0
    text = normalise(value)
    for run in NOT_HAN.finditer(text):
        tokens.extend(text[end : run.start()])
        tokens.extend(split_words(run.group()))
        end = run.end()
    tokens.extend(text[end:])
    return tokens


def load(path: Path) -> Any:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return json.load(file)


def gold_answers(directory: Path, name: str) -> dict[str, list[str]]:
    data = load(directory / "metrics" / "gold" / f"{name}.json.gz")["data"]
    questions = [qa for article in data for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    return {qa["id"]: [answer["text"] for answer in qa["answers"]] for qa in questions}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("光荣和ω-force", ["光", "荣", "和", "ωforce"]),
        ("3-5年", ["35", "年"]),
        ("3—5年", ["3—5", "年"]),
        ("12,000人", ["12,000", "人"]),
        ("《红楼梦》。", ["红", "楼", "梦"]),
        ("他……", ["他", "……"]),
        ("约50% ", ["约", "50", "%"]),
        ("〇𠮷あ中", ["〇𠮷あ", "中"]),
        ("Mr. Smith 说", ["mr.", "smith", "说"]),
        ("etc. and", ["etc", ".", "and"]),
        ("He cannot go", ["he", "can", "not", "go"]),
        (20.0, ["20.0"]),
        ("", []),
    ],
)
def test_segments_are_han_characters_and_english_words(text: object, tokens: list[str]) -> None:
    assert segment(text) == tokens


def test_f1_is_by_substring_and_not_by_subsequence() -> None:
    # 北京大学 and 北京的大学 share a subsequence of 4, but a substring of 2: P = 2/5, R = 2/4.
    assert em_f1(["北京大学"], "北京的大学") == (0.0, pytest.approx(2 * 0.4 * 0.5 / 0.9))


def test_common_substring_is_of_tokens_and_not_of_characters() -> None:
    assert em_f1(["1998年"], "98年") == (0.0, pytest.approx(2 / 4))
    assert em_f1(["abc"], "abcd") == (0.0, 0.0)


def test_punctuation_is_dropped_without_ending_a_word() -> None:
    assert em_f1(["12:30"], "1230") == (1.0, 1.0)
    assert em_f1(["他说：‘好’"], "他说好")[0] == 0.0


def test_blanks_count_for_exact_match_only() -> None:
    assert em_f1(["北京 上海"], "北京上海") == (0.0, 1.0)


def test_best_answer_counts_for_em_and_f1() -> None:
    assert em_f1(["2008年6月", "6月14日"], "6月14日。") == (1.0, 1.0)


def test_empty_answer_matches_empty_prediction_with_f1_zero() -> None:
    assert em_f1(["。"], "") == (1.0, 0.0)


def test_words_outside_the_gold_never_match_each_other() -> None:
    scorer = CmrcScorer({"q": ["甲 xx 乙"]})
    assert scorer.em_f1("q", "yy zz")[1] == 0.0
    assert scorer.em_f1("q", "甲 yy 乙")[1] == pytest.approx(1 / 3)


def test_characters_used_as_codes_inside_do_not_collide_with_text() -> None:
    # "\x01" is the code of the first gold word; as text it is another word.
    assert em_f1(["abc"], "\x01") == (0.0, 0.0)
    assert em_f1(["abc"], "\x00") == (0.0, 0.0)


def test_missing_questions_score_zero_and_stay_in_the_total() -> None:
    score = score_cmrc({"a": ["北京"], "b": ["上海"]}, {"a": "北京", "x": "天津"})
    assert score.values == {"em": 50.0, "f1": 50.0, "average": 50.0}
    assert (score.n, score.n_missing) == (2, 1)
    assert score.per_example == {"a": {"em": 1.0, "f1": 1.0}, "b": {"em": 0.0, "f1": 0.0}}


def test_predictions_that_are_no_text_are_scored_as_text() -> None:
    assert score_cmrc({"a": ["2018"], "b": ["None"]}, {"a": 2018, "b": None}).values["em"] == 100.0


def test_gold_without_answers_is_refused() -> None:
    with pytest.raises(DataError, match=r"1 of 2 questions have no gold answer \(first: b\)"):
        CmrcScorer({"a": ["x"], "b": []})
    with pytest.raises(DataError, match="no question"):
        score_cmrc({}, {})


def test_a_scorer_gives_the_same_score_again() -> None:
    gold = {"a": ["约50% 的人"], "b": ["A.B. 甲"]}
    scorer = CmrcScorer(gold)
    predictions = {"a": "50%", "b": "甲 ab new word"}
    first = scorer(predictions)
    scorer({"a": "other words", "b": "50%"})
    assert scorer(predictions) == first == score_cmrc(gold, predictions)


def test_longest_common_substring_equals_a_table() -> None:
    source = random.Random(0)
    for _ in range(2000):
        a, b = ("".join(source.choices("甲乙丙", k=source.randrange(9))) for _ in range(2))
        table = [len(a[i:j]) for i in range(len(a)) for j in range(i + 1, len(a) + 1) if a[i:j] in b]
        assert longest_common_substring(a, b) == max(table, default=0), (a, b)


def test_ordinary_text_is_scored_without_importing_nltk() -> None:
    code = "from tasks.metrics.cmrc import CmrcScorer; CmrcScorer({'q': ['1998年abc 3.5']})({'q': '年'})"
    code += "; import sys; sys.exit('nltk' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_fast_path_equals_nltk_on_random_text() -> None:
    source = random.Random(1)
    alphabet = [
        *"ab1.. ,'\"…—$%()[]«»„;:!?&°×３İıſ\u200b\u3000\n",
        "cannot",
        "wanna",
        "gimme",
        "d'ye",
        "3.5",
        "1,000",
        " ",
    ]
    for _ in range(5000):
        text = "".join(source.choices(alphabet, k=source.randrange(1, 12))).lower()
        assert list(split_words(text)) == segmentation._nltk()(text), repr(text)


@pytest.mark.golden
def test_fast_path_equals_nltk_on_every_golden_segment(golden_dir: Path) -> None:
    segments = load(golden_dir / "metrics" / "nltk_segments.json.gz")
    fast = 0
    for text in segments:
        if segmentation._PLAIN.fullmatch(text) and not segmentation._CONTRACTED.search(text):
            fast += 1
            assert text.split() == segmentation._nltk()(text), repr(text)
    assert fast > 0.75 * len(segments)


@pytest.mark.golden
def test_words_equal_nltk_with_punkt_on_every_golden_segment(golden_dir: Path) -> None:
    segments = load(golden_dir / "metrics" / "nltk_segments.json.gz")
    wrong = [text for text, expected in segments.items() if list(split_words(text)) != expected["t"]]
    # punkt's model is not shipped: docs/metrics.md says what may remain. None does on this set.
    assert wrong == []


@pytest.mark.golden
def test_single_pairs_equal_the_official_script(golden_dir: Path) -> None:
    for case in load(golden_dir / "metrics" / "edge_cases.json"):
        em, f1 = em_f1(case["answers"], case["prediction"])
        assert em == case["em"], case
        assert f1 == pytest.approx(case["f1"], abs=1e-9), case
        assert [segment(answer) for answer in case["answers"]] == case["gold_segs"]
        assert segment(case["prediction"]) == case["pred_segs"]


@pytest.mark.golden
@pytest.mark.parametrize("name", PREDICTION_FILES)
def test_files_equal_the_official_script(golden_dir: Path, name: str) -> None:
    predictions = load(golden_dir / "metrics" / "pred" / f"{name}.json.gz")
    score = score_cmrc(gold_answers(golden_dir, name.split(".")[0]), predictions)
    expected = load(golden_dir / "metrics" / "scores.json")[name]["cmrc_v6_py3"]
    assert score.values["em"] == pytest.approx(expected["EM"], abs=1e-9)
    assert score.values["f1"] == pytest.approx(expected["F1"], abs=1e-6)
    assert score.values["average"] == pytest.approx(expected["AVERAGE"], abs=1e-6)
    assert (score.n, score.n_missing) == (expected["TOTAL"], expected["SKIP"])
    for question, (em, f1) in load(golden_dir / "metrics" / "perq" / f"{name}.json.gz")["cmrc"].items():
        assert score.per_example[question]["em"] == em, question
        assert score.per_example[question]["f1"] == pytest.approx(f1, abs=1e-9), question
