"""Answers with evidence: sentences, labels of their first pieces, decoding, the metrics of CAIL2020 and ExpMRC."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment.io.predictions import read_predictions, write_predictions
from preprocess.base.errors import DataError
from preprocess.text.sentences import Sentence, split_sentences
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import NO_TARGET, Answer, Example, FeatureSet, Outputs
from tasks.core.discovery import get_task
from tasks.core.prediction import DecodeOptions
from tasks.metrics.hotpot import HotpotScorer
from tasks.metrics.squad import normalise

CAIL, EXPMRC = get_task("cail2020"), get_task("expmrc_cmrc2018")
N = NO_TARGET
TITLE = "甲乙。"
PARTS = [TITLE, "丙丁戊。", " ", "己庚。"]
CONTEXT = "".join(PARTS)


# --- sentences ---


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("甲。乙！丙？丁", ["甲。", "乙！", "丙？", "丁"]),
        ("他说：“甲。”乙……丙", ["他说：“甲。”", "乙……", "丙"]),
        ("甲，乙；丙", ["甲，乙；丙"]),
        ('It is 3.5 m. He said "no." Yes!?  甲', ["It is 3.5 m. ", 'He said "no." ', "Yes!?  ", "甲"]),
        ("女：甲\n男：乙\n\n丙", ["女：甲\n", "男：乙\n\n", "丙"]),
        (" \n甲。", [" \n甲。"]),
        ("甲。\n ", ["甲。\n "]),
        ("", []),
        (" \n", []),
    ],
)
def test_sentences(text: str, parts: list[str]) -> None:
    sentences = split_sentences(text)
    assert [text[one.char_start : one.char_end] for one in sentences] == parts
    assert [one.number for one in sentences] == list(range(len(parts)))


# --- the layout of HotpotQA ---


def _question(id: Any, answer: Any = "丁", facts: Any = None, **changes: Any) -> dict[str, Any]:
    facts = [[TITLE, 1]] if facts is None else facts
    one = {"_id": id, "question": "谁", "context": [[TITLE, PARTS]], "answer": answer, "supporting_facts": facts}
    return {**one, **changes}


def _file(path: Path, *questions: Any) -> Path:
    path.write_text(json.dumps(questions), encoding="utf-8")
    return path


def test_reader_joins_sentences_and_finds_answers_where_the_facts_are(tmp_path: Path) -> None:
    twice = [["t", ["己。", "甲己。"]], ["u", ["己乙。"]]]
    file = _file(
        tmp_path / "a.json",
        _question(1),
        _question("b", "YES", facts=[]),
        _question("c", ""),
        _question("d", "己", [["u", 0]], context=twice),
        _question("e", "子", [[TITLE, 9], ["v", 0]]),
        _question("f", None),
        {"_id": "g", "question": "谁", "context": [[TITLE, PARTS]], "answer": "甲"},
        _question("h", facts=[[TITLE, "1"]]),
    )
    examples, report = CAIL.read(file)
    first = examples[0]
    assert (first.id, first.context, first.answers) == ("1", CONTEXT, (Answer("丁", 4, 5),))
    assert [CONTEXT[one.char_start : one.char_end] for one in first.sentences] == PARTS
    assert first.sentences[1] == Sentence(3, 7, TITLE, 1)
    assert [example.answers[0].kind for example in examples if example.answers] == [
        "span", "yes", "unknown", "span", "span", "span", "span",
    ]  # fmt: skip
    assert examples[3].answers == (Answer("己", 5, 6),)  # its third occurrence, which the fact names
    assert not examples[4].answers[0].located and not examples[5].labelled
    assert json.loads(examples[4].extra["supporting_facts"]) == [[TITLE, 9], ["v", 0]]
    assert "supporting_facts" not in examples[7].extra
    notes = {kind: ids for kind, ids in report.notes.items() if kind != "searched"}
    assert notes == {
        "answer_not_in_context": ["e"],
        "fact_without_sentence": ["e"],
        "unlabelled": ["f"],
        "without_facts": ["g"],
        "facts_malformed": ["h"],
    }
    assert report.n_kept == report.n_questions == 8 and report.n_contexts == 2


def test_questions_about_one_text_are_divided_together() -> None:
    other = _question("c", context=[["t", ["己。"]]])
    content = json.dumps([_question("a"), other, _question("b"), 3]).encode()
    parts = CAIL.parts(content, "a.json")
    assert parts.ties[0] == parts.ties[2] != parts.ties[1] and parts.ties[3] == [] and parts.unit == "questions"
    assert [one["_id"] for one in json.loads(parts.write([0, 2]))] == ["a", "b"]


def test_targets_are_the_answer_and_the_sentences_of_the_facts(tmp_path: Path) -> None:
    file = _file(tmp_path / "a.json", _question("a"), _question("b", "子"), _question("c", "NO", facts=[]))
    examples, _ = CAIL.read(file)
    (target,) = CAIL.targets(examples[0])
    assert (target.answer, target.supporting) == (Answer("丁", 4, 5), (False, True, False, False))
    assert CAIL.targets(examples[1]) == ()
    (target,) = CAIL.targets(examples[2])
    assert (target.answer, target.supporting) == (Answer("NO", kind="no"), (False,) * 4)


@pytest.mark.parametrize("content", ['{"data": [{"paragraphs": []}]}', "[1]", "[]", "3", '[{"id": "a"}]'])
def test_files_of_other_layouts_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.json: found .* without questions; expected .*supporting_facts"):
        CAIL.read(file)


# --- windows and decoding ---


@pytest.fixture(scope="module")
def tokenizer() -> WordPieceTokenizer:
    return WordPieceTokenizer([*SPECIAL_TOKENS, "谁", *"甲乙丙丁戊己庚。"])


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    facts = [[TITLE, 0], [TITLE, 3]]
    return CAIL.read(_file(tmp_path / "a.json", _question("a", facts=facts), _question("b", "unknown", [])))[0]


def encoded(examples: list[Example], tokenizer: WordPieceTokenizer, **windows: int) -> FeatureSet:
    targets = [next(iter(CAIL.targets(example)), None) for example in examples]
    return CAIL.problem.encode(examples, targets, tokenizer, **{"max_seq_length": 16, **windows})


def test_the_first_piece_of_each_sentence_is_labelled(examples: list[Example], tokenizer: WordPieceTokenizer) -> None:
    # [CLS] 谁 [SEP] 甲乙。丙丁戊。己庚。 [SEP]; the sentence " " has no piece.
    features = encoded(examples, tokenizer)
    marks = features.targets["evidence"].reshape(2, 14).tolist()
    assert marks[0] == [N, N, N, 1, N, N, 0, N, N, N, 1, N, N, N]
    assert marks[1] == [N, N, N, 0, N, N, 0, N, N, N, 0, N, N, N]
    assert features.targets["start"].tolist() == [7, 0] and features.targets["kind"].tolist() == [N, 0]
    assert features.meta["counts"]["sentences_evidence"] == 2
    assert CAIL.problem.chance(features) == pytest.approx(np.log(14) + np.log(3) + np.log(2))
    assert CAIL.problem.answered(features).tolist() == [True, False]
    assert CAIL.problem.encode(examples, [None, None], tokenizer).targets["evidence"].tolist() == [N] * 28


def said(features: FeatureSet, odds: Any, *, null: float = -5.0, kind: int = 0) -> Outputs:
    """Every window says 丁 in its first rows, and the log-odds of evidence at positions of its tokens."""
    n, length = len(features), int(features.lengths.max())
    values = {name: np.full((n, length), -9.0, np.float32) for name in ("start", "end")}
    for name in ("start", "end"):
        values[name][0, 7] = 2.0
        values[name][:, 0] = null
    values["kind"] = np.eye(3, dtype=np.float32)[[kind] * n]
    values["evidence"] = np.zeros((n, length, 2), np.float32)
    values["evidence"][..., 1] = -1.0
    for window, position, value in odds:
        values["evidence"][window, position, 1] = value
    return Outputs(np.arange(n, dtype=np.int32), values)


def answered(examples: list[Example], features: FeatureSet, outputs: Outputs) -> Any:
    decoded = CAIL.problem.decode(examples, features, [outputs], DecodeOptions())
    values = {id: one.value for id, one in decoded.items()}
    assert CAIL.problem.best_answers(examples, features, [outputs], DecodeOptions()) == values
    assert all(one.text == one.value["answer"] for one in decoded.values())
    return values["a"]


@pytest.mark.parametrize(
    ("odds", "sentences"),
    [
        ([(0, 3, 0.5), (0, 10, 2.0)], [0, 3]),
        ([(0, 6, -0.5)], [1]),  # none is likely: the likeliest
        ([(0, 4, 9.0), (0, 13, 9.0), (0, 10, -0.1)], [3]),  # only first pieces count
    ],
)
def test_evidence_is_what_is_likelier_so_than_not(
    examples: list[Example], tokenizer: WordPieceTokenizer, odds: Any, sentences: list[int]
) -> None:
    value = answered(examples[:1], features := encoded(examples[:1], tokenizer), said(features, odds))
    assert value == {"answer": "丁", "sp": [[TITLE, number] for number in sentences]}


def test_no_answer_needs_no_evidence_but_may_have_some(
    examples: list[Example], tokenizer: WordPieceTokenizer
) -> None:
    features = encoded(examples[:1], tokenizer)
    none = said(features, [], null=9.0)
    assert answered(examples[:1], features, none) == {"answer": "unknown", "sp": []}
    some = said(features, [(0, 6, 1.0)], null=9.0)
    assert answered(examples[:1], features, some)["sp"] == [[TITLE, 1]]
    yes = said(features, [], null=9.0, kind=1)
    assert answered(examples[:1], features, yes) == {"answer": "yes", "sp": [[TITLE, 0]]}


def test_a_sentence_is_scored_in_the_window_with_most_of_its_context(
    examples: list[Example], tokenizer: WordPieceTokenizer
) -> None:
    features = encoded(examples[:1], tokenizer, max_seq_length=12, doc_stride=3)
    # 甲乙。丙丁戊。己 and 丙丁戊。己庚。: 丙 has more context in the first window, 己 in the second.
    assert len(features) == 2
    outputs = said(features, [(0, 3, -3.0), (0, 6, 1.0), (0, 10, 9.0), (1, 3, -9.0), (1, 7, -2.0)])
    assert answered(examples[:1], features, outputs)["sp"] == [[TITLE, 1]]
    # Both label the sentences whose first pieces they hold.
    marks = [
        features.targets["evidence"][a:b].tolist()
        for a, b in zip(*[features.row_splits[i:][:2] for i in (0, 1)], strict=True)
    ]
    assert marks[0][3:11] == [1, N, N, 0, N, N, N, 1] and marks[1][3:10] == [0, N, N, N, 1, N, N]


def test_threshold_is_tuned_on_answers_and_evidence_together(
    examples: list[Example], tokenizer: WordPieceTokenizer
) -> None:
    features = encoded(examples[:1], tokenizer)
    outputs = said(features, [(0, 3, 1.0), (0, 10, 1.0)], null=3.0)
    assert CAIL.problem.best_answers(examples[:1], features, [outputs], DecodeOptions())["a"]["answer"] == "unknown"
    tuned = CAIL.problem.tune(examples[:1], features, [outputs], DecodeOptions(), CAIL.scorer(examples[:1]))
    assert tuned.null_score_diff_threshold > 2.0
    found = CAIL.problem.best_answers(examples[:1], features, [outputs], tuned)
    assert CAIL.score(examples[:1], found).values["joint_f1"] == 100.0
    # Where spans alone are asked for, there is no threshold.
    same = DecodeOptions()
    assert EXPMRC.problem.tune(examples[:1], features, [outputs], same, CAIL.scorer(examples[:1])) is same


# --- CAIL2020's metric and files ---


def by_hand(gold: dict[str, Any], prediction: dict[str, Any]) -> dict[str, float]:
    """Follow HotpotQA's published rules, with characters for words and the three whole answers."""
    values = dict.fromkeys([p + m for p in ("", "sp_", "joint_") for m in ("em", "f1", "prec", "recall")], 0.0)

    def f1(p: float, r: float) -> float:
        return 2 * p * r / (p + r) if p + r > 0 else 0.0

    if "answer" in prediction:
        right, given = normalise(gold["answer"]), normalise(prediction["answer"])
        values["em"] = float(right == given)
        same = sum((Counter(right) & Counter(given)).values())
        blocked = right != given and ({right, given} & {"yes", "no", "unknown"})
        if same and not blocked:
            values["prec"], values["recall"] = same / len(given), same / len(right)
        values["f1"] = f1(values["prec"], values["recall"])
    if "sp" in prediction:
        right_facts, given_facts = {tuple(f) for f in gold["sp"]}, {tuple(f) for f in prediction["sp"]}
        tp, fp, fn = (
            len(right_facts & given_facts), len(given_facts - right_facts), len(right_facts - given_facts)
        )  # fmt: skip
        p, r = tp / (tp + fp) if tp + fp else 0.0, tp / (tp + fn) if tp + fn else 0.0
        all_right = (1.0,) * 4 if fp + fn == 0 else (0.0, f1(p, r), p, r)
        values |= dict(zip(("sp_em", "sp_f1", "sp_prec", "sp_recall"), all_right, strict=True))
    if prediction.keys() == {"answer", "sp"}:
        p, r = values["prec"] * values["sp_prec"], values["recall"] * values["sp_recall"]
        values |= {"joint_em": values["em"] * values["sp_em"], "joint_f1": f1(p, r), "joint_prec": p}
        values["joint_recall"] = r
    return values


def test_cail2020_metric_equals_the_published_rules_on_random_predictions() -> None:
    draw = random.Random(3)

    def value() -> dict[str, Any]:
        text = draw.choice(
            ["yes", "NO", "unknown", "Unknown.", "".join(draw.choices("甲乙丙 a-，", k=draw.randrange(5)))]
        )
        return {"answer": text, "sp": [[draw.choice("tu"), draw.randrange(3)] for _ in range(draw.randrange(4))]}

    for _ in range(1000):
        gold, prediction = value(), value()
        for name in draw.choice([[], [], ["sp"], ["answer"]]):
            del prediction[name]
        facts = {"q": {(title, number) for title, number in gold["sp"]}}
        scores = HotpotScorer({"q": gold["answer"]}, facts)({"q": prediction}).per_example["q"]
        assert scores == pytest.approx(by_hand(gold, prediction)), (gold, prediction)


def test_what_is_not_predicted_scores_nothing(examples: list[Example]) -> None:
    score = CAIL.score(examples, {"a": "丁", "x": "丁"})
    assert (score.values["em"], score.values["sp_em"], score.values["joint_f1"], score.n_missing) == (
        50.0,
        0.0,
        0.0,
        1,
    )
    assert CAIL.score(examples, {"b": {"answer": "UNKNOWN", "sp": []}}).values["joint_em"] == 50.0
    without = Example("z", "?", "甲", (Answer("甲", 0, 1),))
    with pytest.raises(DataError, match=r"1 of 3 questions have no supporting facts \(first: z\)"):
        CAIL.scorer([*examples, without])


def test_cail2020_predictions_are_written_and_read_in_the_official_form(
    examples: list[Example], tokenizer: WordPieceTokenizer, tmp_path: Path
) -> None:
    features = encoded(examples[:1], tokenizer)
    decoded = CAIL.problem.decode(examples[:1], features, [said(features, [(0, 3, 1.0)])], DecodeOptions())
    write_predictions(CAIL, examples[:1], tmp_path, decoded)
    official = tmp_path / "predictions_official.json"
    expected = {"answer": {"a": "丁"}, "sp": {"a": [[TITLE, 0]]}}
    assert json.loads(official.read_text(encoding="utf-8")) == expected
    for file in (official, tmp_path / "predictions.json"):
        assert read_predictions(file, CAIL) == {"a": {"answer": "丁", "sp": [[TITLE, 0]]}}
    official.write_text(json.dumps({"answer": {"a": "丁", "b": "甲"}, "sp": {"b": [["t"]]}}), encoding="utf-8")
    with pytest.raises(DataError, match="1 answers are not the task's .*'b'"):
        read_predictions(official, CAIL)
