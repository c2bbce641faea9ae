"""Answers of several spans: labels and tags of windows, decoding, and CAIL2021 from file to score."""

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
from preprocess.joined import JoinedAnswer
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import NO_TARGET, Answer, Example, FeatureSet, Outputs
from tasks.core.discovery import get_task
from tasks.core.prediction import DecodeOptions
from tasks.metrics.cjrc import normalise
from tasks.problems.multispan import MultiSpanProblem

CONTEXT = "甲乙丙丁戊己庚辛壬癸"
TASK = get_task("cail2021")
PROBLEM = TASK.problem
N = NO_TARGET


@pytest.fixture(scope="module")
def tokenizer() -> WordPieceTokenizer:
    return WordPieceTokenizer([*SPECIAL_TOKENS, "问", *CONTEXT])


def span(text: str) -> Answer:
    start = CONTEXT.index(text)
    return Answer(text, start, start + len(text))


def several(*texts: str) -> JoinedAnswer:
    return JoinedAnswer("".join(texts), kind="spans", parts=tuple(map(span, texts)))


def encoded(tokenizer: WordPieceTokenizer, *targets: Answer | None, **windows: Any) -> FeatureSet:
    examples = [Example(f"q{i}", "问", CONTEXT) for i in range(len(targets))]
    return PROBLEM.encode(examples, targets, tokenizer, **{"max_seq_length": 14, **windows})


def test_tags_stand_at_all_parts_and_the_span_at_the_first(tokenizer: WordPieceTokenizer) -> None:
    # [CLS] 问 [SEP] 甲 乙 …: the context begins at position 3.
    features = encoded(tokenizer, several("乙丙", "丁", "壬癸"), span("己"), Answer("YES", kind="yes"), None)
    tags = features.targets["bio"].reshape(4, 14).tolist()
    assert tags[0] == [N, N, N, 0, 1, 2, 1, 0, 0, 0, 0, 1, 2, N]
    assert tags[1] == [N, N, N, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, N]
    assert tags[2] == [N, N, N, *[0] * 10, N] and tags[3] == [N] * 14
    assert features.targets["start"].tolist() == [4, 8, 0, 0] and features.targets["end"].tolist() == [5, 8, 0, 0]
    assert features.targets["kind"].tolist() == [N, N, 1, N]
    assert features.meta["counts"]["target_several"] == 1
    assert PROBLEM.answered(features).tolist() == [True, True, True, False]
    assert PROBLEM.chance(features) == pytest.approx(np.log(14) + np.log(3) + np.log(3))


def test_a_window_is_labelled_with_the_first_part_that_it_holds(tokenizer: WordPieceTokenizer) -> None:
    features = encoded(tokenizer, several("乙丙", "壬癸"), max_seq_length=8, doc_stride=3)
    # Windows of four pieces: 甲乙丙丁, 丁戊己庚, 庚辛壬癸; the second holds no part, so that nothing is its answer.
    assert features.targets["start"].tolist() == [4, 0, 5] and features.targets["end"].tolist() == [5, 0, 6]
    assert features.targets["kind"].tolist() == [N, 0, N]
    assert features.targets["bio"].reshape(3, 8)[:, 3:7].tolist() == [[0, 1, 2, 0], [0, 0, 0, 0], [0, 0, 1, 2]]


def said(features: FeatureSet, *, start: int, end: int, null: float = 0.0, kind: int = 0, **tags: str) -> Outputs:
    """Logits of windows that all point at one span, and tag their context by letters."""
    shape = len(features), int(features.lengths.max())
    values = {name: np.full(shape, -9.0, np.float32) for name in ("start", "end")}
    values["start"][:, start] = values["end"][:, end] = 2.0
    values["start"][:, 0] = values["end"][:, 0] = null
    values["kind"] = np.eye(3, dtype=np.float32)[[kind] * shape[0]]
    values["bio"] = np.zeros((*shape, 3), np.float32)
    for window, letters in enumerate(tags.values()):
        for place, letter in enumerate(letters, start=3):
            values["bio"][window, place, "OBI".index(letter)] = 1.0
    return Outputs(np.arange(shape[0], dtype=np.int32), values)


def decoded(features: FeatureSet, outputs: Outputs, threshold: float = 0.0) -> Any:
    examples = [Example("q0", "问", CONTEXT)]
    options = DecodeOptions(null_score_diff_threshold=threshold)
    prediction = PROBLEM.decode(examples, features, [outputs], options)["q0"]
    assert PROBLEM.best_answers(examples, features, [outputs], options) == {"q0": prediction.value}
    return prediction


@pytest.mark.parametrize(
    ("tags", "parts"),
    [
        ("OBIBOOOOBI", ["乙丙", "丁", "壬癸"]),
        ("OIIBOOOOOI", ["乙丙", "丁", "癸"]),  # what goes on where nothing has begun, begins there
        ("BBOOOOOOOO", ["甲", "乙"]),
        ("OBIOOOOOOO", ["己"]),  # one tagged part is no reason to doubt the best span
        ("OOOOOOOOOO", ["己"]),
    ],
)
def test_from_two_tagged_parts_on_they_are_the_answer(tokenizer: Any, tags: str, parts: list[str]) -> None:
    features = encoded(tokenizer, None)
    prediction = decoded(features, said(features, start=8, end=8, w0=tags))
    assert prediction.value == parts and prediction.text == "".join(parts)
    one = len(parts) == 1
    assert prediction.kind == ("span" if one else "spans")
    assert (prediction.char_start, prediction.char_end) == ((5, 6) if one else (-1, -1))
    assert prediction.nbest[0].text == prediction.text
    assert sum(candidate.probability for candidate in prediction.nbest) == pytest.approx(1.0)


def test_where_there_is_no_answer_tags_say_nothing(tokenizer: WordPieceTokenizer) -> None:
    features = encoded(tokenizer, None)
    outputs = said(features, start=8, end=8, null=3.0, kind=2, w0="BBBBBBBBBB")
    prediction = decoded(features, outputs)
    assert (prediction.value, prediction.text, prediction.kind) == (["NO"], "NO", "no")
    assert len(decoded(features, outputs, threshold=9.0).value) == 10


def test_a_piece_has_the_tag_of_the_window_with_most_of_its_context(tokenizer: WordPieceTokenizer) -> None:
    features = encoded(tokenizer, None, max_seq_length=10, doc_stride=4)
    # 甲乙丙丁戊己 and 戊己庚辛壬癸: 戊 counts in the first window, 己 in the second.
    outputs = said(features, start=4, end=4, w0="BOOOBI", w1="OOOOOB")
    assert decoded(features, outputs).value == ["甲", "戊", "癸"]
    halves = [
        Outputs(outputs.window[i : i + 1], {k: v[i : i + 1] for k, v in outputs.values.items()}) for i in (1, 0)
    ]
    found = PROBLEM.best_answers([Example("q0", "问", CONTEXT)], features, halves, DecodeOptions())
    assert found == {"q0": ["甲", "戊", "癸"]}


def test_tags_that_are_no_numbers_are_refused(tokenizer: WordPieceTokenizer) -> None:
    features = encoded(tokenizer, None)
    outputs = said(features, start=8, end=8, w0="OOOOOOOOOO")
    outputs.values["bio"][0, 5, 1] = np.nan
    with pytest.raises(DataError, match="window 0: a logit of bio is not finite"):
        decoded(features, outputs)


def test_threshold_is_tuned_on_joined_answers(tokenizer: WordPieceTokenizer) -> None:
    features = encoded(tokenizer, None)
    outputs = said(features, start=8, end=8, null=3.0, w0="BOBOOOOOOO")
    examples = [Example("q0", "问", CONTEXT, (several("甲", "丙"),))]
    tuned = PROBLEM.tune(examples, features, [outputs], DecodeOptions(), TASK.scorer(examples))
    assert tuned.null_score_diff_threshold > 2.0  # the null score is 6, that of the span 4
    assert PROBLEM.best_answers(examples, features, [outputs], tuned) == {"q0": ["甲", "丙"]}


def test_the_cache_tells_several_spans_from_one_and_knows_the_kinds() -> None:
    assert repr(several("甲", "乙")) != repr(several("甲乙")) != repr(span("甲乙"))
    assert MultiSpanProblem({"unknown": ""}).name != PROBLEM.name


# --- CAIL2021's files ---


def _file(path: Path, *answers: Any) -> Path:
    qas = [
        {"id": f"q{i}", "question": "问", "answers": own, "is_impossible": "false"} for i, own in enumerate(answers)
    ]
    article = {"caseid": "1", "paragraphs": [{"context": CONTEXT, "casename": "借贷", "qas": qas}]}
    path.write_text(json.dumps({"version": "1.0", "data": [article]}), encoding="utf-8")
    return path


def place(text: str, start: int | None = None) -> dict[str, Any]:
    return {"text": text, "answer_start": CONTEXT.find(text) if start is None else start}


def test_reader_takes_lists_of_spans(tmp_path: Path) -> None:
    file = _file(
        tmp_path / "train.json",
        [[place("乙丙"), place("壬")], place("甲")],
        [[place("丁")]],
        [[]],
        [],
        [[place("YES", -1)]],
        [[place("乙"), place("子")], place("甲")],
        [[place("甲"), {"text": None}]],
    )
    examples, report = TASK.read(file)
    assert examples[0].answers == (several("乙丙", "壬"), span("甲"))
    assert [TASK.targets(example) for example in examples] == [
        (several("乙丙", "壬"),),
        (span("丁"),),
        (Answer("", kind="unknown"),),
        (Answer("", kind="unknown"),),
        (Answer("YES", kind="yes"),),
        (span("甲"),),  # a part that is not in the text can't be learned
    ]
    assert examples[5].answers[0].text == "乙子"
    assert report.notes["answer_not_in_context"] == ["q5"] and report.dropped == {"answers_malformed": ["q6"]}
    assert report.n_questions == report.n_kept + 1 == 7


def test_other_tasks_refuse_lists_of_spans(tmp_path: Path) -> None:
    file = _file(tmp_path / "train.json", [[place("乙丙"), place("壬")]], [place("甲")])
    _, report = get_task("cjrc").read(file)
    assert report.dropped == {"answers_malformed": ["q0"]}


def by_hand(answers: list[list[str]], prediction: list[str]) -> tuple[float, float]:
    """Follow the published rules: join, reduce to letters and digits, leave each answer out once."""
    own = Counter(normalise("".join(prediction)))
    golds = [Counter(normalise("".join(parts))) for parts in answers] or [Counter()]
    exact = [normalise("".join(parts)) == normalise("".join(prediction)) for parts in answers or [[]]]

    def f1(gold: Counter[str]) -> float:
        if not gold or not own:
            return float(gold == own)
        return 2 * (gold & own).total() / (gold.total() + own.total())

    def left_out(scores: list[float]) -> float:
        if len(scores) == 1:
            return float(scores[0])
        return sum(max(scores[:i] + scores[i + 1 :]) for i in range(len(scores))) / len(scores)

    return left_out(exact), left_out([f1(gold) for gold in golds])


def test_metric_equals_the_published_rules_on_random_answers() -> None:
    draw = random.Random(2)

    def parts(least: int) -> list[str]:
        return ["".join(draw.choices("甲乙丙1a，½", k=draw.randrange(4))) for _ in range(draw.randint(least, 3))]

    for _ in range(1000):
        answers, prediction = [parts(1) for _ in range(draw.randrange(4))], parts(0)
        gold = tuple(JoinedAnswer("".join(own), kind="spans", parts=tuple(map(Answer, own))) for own in answers)
        scores = TASK.scorer([Example("q", "?", "", gold)])({"q": prediction}).per_example["q"]
        assert (scores["em"], scores["f1"]) == pytest.approx(by_hand(answers, prediction)), (answers, prediction)


def test_predictions_are_written_and_read_as_lists_of_texts(tokenizer: WordPieceTokenizer, tmp_path: Path) -> None:
    features = encoded(tokenizer, None)
    prediction = decoded(features, said(features, start=8, end=8, w0="BOBOOOOOOO"))
    write_predictions(TASK, (), tmp_path, {"q0": prediction})
    official = tmp_path / "predictions_official.json"
    assert json.loads(official.read_text(encoding="utf-8")) == [{"id": "q0", "answer": ["甲", "丙"]}]
    for file in (official, tmp_path / "predictions.json"):
        assert read_predictions(file, TASK) == read_predictions(file, written_here=True) == {"q0": ["甲", "丙"]}
    with pytest.raises(DataError, match="1 answers are neither texts nor numbers"):
        read_predictions(official, get_task("cjrc"))
    official.write_text('[{"id": "q0", "answer": ["甲", 1]}]', encoding="utf-8")
    with pytest.raises(DataError, match="1 answers are not the task's .*'q0' has a list of 2.*; give its own"):
        read_predictions(official, TASK)


def test_report_tells_several_spans_from_one() -> None:
    examples = [Example("a", "?", CONTEXT, (several("甲", "丙"),)), Example("b", "?", CONTEXT, (span("甲"),))]
    assert TASK.report is not None
    report = TASK.report(examples, {"a": ["甲", "丙"], "b": ["YES"]})
    kinds = report["kinds"]
    assert report["confusion"][kinds.index("spans")][kinds.index("spans")] == 1
    assert report["confusion"][kinds.index("span")][kinds.index("yes")] == 1
