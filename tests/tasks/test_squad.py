"""The SQuAD tasks: targets, unanswerable questions, and the real English files from file to score."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from experiment.inputs.data import trainable
from preprocess.align import align
from preprocess.base.errors import DataError
from preprocess.readers.report import DataReport
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import Answer, Example, FeatureSet, Outputs
from tasks.core.discovery import get_task
from tasks.core.prediction import DecodeOptions
from tasks.core.problem import Tunable
from tasks.core.task import Task
from tasks.metrics.squad import SquadV2Scorer
from tasks.squad_v2 import null_odds
from tests.support.values import SPAN, encode, span_outputs

CONTEXT = "The cat sat on the mat. A dog came."
REAL = {
    "xquad.en.json": ("squad", 1190, 1190),
    "expmrc-squad-dev.json": ("squad", 501, 501),
    "squad-dev-v2.0-normans-only.json": ("squad_v2", 208, 96),
}


def vocabulary(texts: Sequence[str], *, lower: bool) -> WordPieceTokenizer:
    """All characters, and the words that occur twice: rarer words fall into pieces."""
    joined = " ".join(texts)
    if lower:
        plain = unicodedata.normalize("NFD", joined.lower())
        joined = "".join(character for character in plain if unicodedata.category(character) != "Mn")
    characters = sorted(set(joined) - {" "})
    words = [word for word, count in sorted(Counter(re.findall(r"\w+", joined)).items()) if count > 1]
    tokens = dict.fromkeys([*SPECIAL_TOKENS, *characters, *(f"##{character}" for character in characters), *words])
    return WordPieceTokenizer(tokens, do_lower_case=lower)


def question(id: str, *answers: str, **extra: str) -> Example:
    places = [CONTEXT.find(text) for text in answers]
    found = (
        Answer(text, at, at + len(text)) if at >= 0 else Answer(text)
        for text, at in zip(answers, places, strict=True)
    )
    return Example(id, "Who?", CONTEXT, tuple(found), "", extra)


def encoded(task: Task, examples: Sequence[Example], tokenizer: WordPieceTokenizer, **params: int) -> FeatureSet:
    targets = [next(iter(task.targets(example)), None) for example in examples]
    return task.problem.encode(examples, targets, tokenizer, **params)


def oracle(features: FeatureSet) -> Outputs:
    """Outputs of a model that knows every label: +10 there, -10 elsewhere."""
    windows = np.arange(len(features), dtype=np.int32)
    start, end = (np.full((len(features), int(features.lengths.max())), -10.0, np.float32) for _ in range(2))
    start[windows, features.targets["start"]] = 10.0
    end[windows, features.targets["end"]] = 10.0
    return span_outputs(windows, start, end)


def file_of(path: Path, *questions: dict[str, object]) -> Path:
    document = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": questions}]}]}
    path.write_text(json.dumps(document), "utf-8")
    return path


@pytest.fixture(scope="module")
def tokenizer() -> WordPieceTokenizer:
    return vocabulary([CONTEXT, CONTEXT, "Who? Who?"], lower=True)


def test_v1_trains_on_the_first_answer_with_a_place() -> None:
    targets = get_task("squad").targets
    assert targets(question("q", "bird", "the mat", "dog")) == (Answer("the mat", 15, 22),)
    assert targets(question("q")) == targets(question("q", "bird")) == ()


def test_v1_refuses_to_score_unanswerable_questions_and_names_them() -> None:
    with pytest.raises(DataError, match=r"1 of 2 questions have no gold answer \(b\); .*squad_v2"):
        get_task("squad").scorer([question("a", "cat"), question("b", is_impossible="true")])


def test_v2_trains_unanswerable_questions_and_drops_none_of_them() -> None:
    task = get_task("squad_v2")
    unanswerable = (Answer("", kind="unknown"),)
    assert task.targets(question("q")) == unanswerable
    assert task.targets(question("q", "cat", is_impossible="true")) == unanswerable
    assert task.targets(question("q", "cat", is_impossible="false")) == (Answer("cat", 4, 7),)
    assert task.targets(question("q", "bird")) == ()
    unlabelled = Example("d", "?", CONTEXT, labelled=False)
    examples = [question("a"), question("b", "cat"), question("c", "bird"), unlabelled]
    found = trainable(task, examples, DataReport("train.json"))
    assert [example.id for example in found.examples] == ["a", "b"] and found.without_target == ["c", "d"]
    assert task.problem.head == SPAN


def test_unanswerable_questions_are_labelled_with_the_span_of_cls(tokenizer: WordPieceTokenizer) -> None:
    task = get_task("squad_v2")
    features = encoded(task, [question("a"), question("b", "cat")], tokenizer, max_seq_length=64)
    # [CLS] who ? [SEP] the cat: "cat" is at position 5.
    assert features.targets["start"].tolist() == features.targets["end"].tolist() == [0, 5]
    assert "kind" not in features.targets
    counts = features.meta["counts"]
    assert (counts["target_span"], counts["target_kind"], counts["without_target"]) == (1, 1, 0)


def test_v2_reader_leaves_plausible_answers_out_and_notes_contradictions(tmp_path: Path) -> None:
    cat, dog = {"text": "cat", "answer_start": 4}, {"text": "dog", "answer_start": 26}
    plausible = {"id": "a", "question": "?", "answers": [], "plausible_answers": [cat], "is_impossible": True}
    both = {"id": "b", "question": "?", "answers": [dog], "is_impossible": True}
    none = {"id": "c", "question": "?", "answers": [], "is_impossible": False}
    fine = {"id": "d", "question": "?", "answers": [cat], "is_impossible": False}
    examples, report = get_task("squad_v2").read(file_of(tmp_path / "f.json", plausible, both, none, fine))
    assert [len(example.answers) for example in examples] == [0, 1, 0, 1]
    assert report.notes["impossible_with_answers"] == ["b"]
    assert report.notes["possible_without_answers"] == ["c"]
    assert report.n_kept == report.n_questions == 4


def two_windows(tokenizer: WordPieceTokenizer, null: tuple[float, float], span: float) -> tuple[FeatureSet, Outputs]:
    """One question in two windows, whose [CLS] score `null` as start, and "cat" as start and end in the first."""
    features = encoded(get_task("squad_v2"), [question("q", "cat")], tokenizer, max_seq_length=13, doc_stride=4)
    assert len(features) == 2 and features.targets["start"].tolist() == [5, 0]
    start, end = (np.full((2, 13), -9.0, np.float32) for _ in range(2))
    start[:, 0], end[:, 0] = null, 0.0
    start[0, 5] = end[0, 5] = span
    return features, span_outputs(np.arange(2, dtype=np.int32), start, end)


@pytest.mark.parametrize(
    ("threshold", "text"), [(-5.0, ""), (-3.001, ""), (-3.0, "cat"), (0.0, "cat"), (100.0, "cat")]
)
def test_empty_answer_is_given_where_the_lowest_null_score_is_above_the_span_by_more_than_the_threshold(
    tokenizer: WordPieceTokenizer, threshold: float, text: str
) -> None:
    # The span scores 2 + 2, the null answer min(7, 1) = 1: the difference is -3.
    features, logits = two_windows(tokenizer, (7.0, 1.0), 2.0)
    options = DecodeOptions(null_score_diff_threshold=threshold)
    task, examples = get_task("squad_v2"), [question("q", "cat")]
    prediction = task.problem.decode(examples, features, [logits], options)["q"]
    assert prediction.text == text == task.problem.best_answers(examples, features, [logits], options)["q"]
    assert prediction.kind == ("span" if text else "unknown")
    assert prediction.score == (4.0 if text else 1.0)
    assert (prediction.char_start, prediction.char_end) == ((4, 7) if text else (-1, -1))
    assert [candidate.text for candidate in prediction.nbest[:2]] == ["cat", ""]
    assert prediction.nbest[1].probability == pytest.approx(math.exp(-3) * prediction.nbest[0].probability)
    assert null_odds({"q": prediction}) == {"q": -3.0}


def test_question_without_a_valid_span_is_unanswerable(tokenizer: WordPieceTokenizer) -> None:
    task, example = get_task("squad_v2"), Example("q", "Who?", "")
    features = encoded(task, [example], tokenizer)
    prediction = task.problem.decode(
        [example], features, [oracle(features)], DecodeOptions(null_score_diff_threshold=99.0)
    )["q"]
    assert (prediction.text, prediction.kind, len(prediction.nbest)) == ("", "unknown", 1)
    assert null_odds({"q": prediction}) == {"q": 1e4}


def noisy(seed: int, tokenizer: WordPieceTokenizer) -> tuple[list[Example], FeatureSet, list[Outputs]]:
    """Questions with random logits, some of them with equal differences."""
    random = np.random.RandomState(seed)
    examples = [question(f"q{i}", *(["cat", "dog"] if i % 3 else [])) for i in range(40)]
    features = encoded(get_task("squad_v2"), examples, tokenizer, max_seq_length=64)
    shape = (len(features), int(features.lengths.max()))
    start, end = (random.randint(-2, 3, shape).astype(np.float32) for _ in range(2))
    right = features.targets["start"] > 0
    start[right, features.targets["start"][right]] += random.randint(0, 6, int(right.sum()))
    start[~right, 0] += random.randint(0, 6, int((~right).sum()))
    return examples, features, [span_outputs(np.arange(len(features), dtype=np.int32), start, end)]


@pytest.mark.parametrize("seed", range(5))
def test_tuned_threshold_is_the_best_of_all_thresholds(tokenizer: WordPieceTokenizer, seed: int) -> None:
    task = get_task("squad_v2")
    assert isinstance(task.problem, Tunable)
    examples, features, logits = noisy(seed, tokenizer)
    scorer = task.scorer(examples)

    def f1(options: DecodeOptions) -> float:
        return scorer(task.problem.best_answers(examples, features, logits, options)).values["f1"]

    tuned = task.problem.tune(examples, features, logits, DecodeOptions(max_answer_length=3), scorer)
    # Differences of these logits are whole numbers, so that these thresholds stand for all.
    every = [DecodeOptions(max_answer_length=3, null_score_diff_threshold=t + 0.5) for t in range(-30, 30)]
    assert f1(tuned) == pytest.approx(max(map(f1, every)), abs=1e-9)
    assert f1(tuned) > f1(every[0]) and f1(tuned) > f1(every[-1])


def test_tuned_threshold_gives_the_official_best_f1_of_the_best_spans(tokenizer: WordPieceTokenizer) -> None:
    task = get_task("squad_v2")
    assert isinstance(task.problem, Tunable)
    examples, features, logits = noisy(7, tokenizer)
    # Random noise keeps all differences apart; the original sweep may stop between equal ones.
    start = logits[0].values["start"]
    start[:] += np.random.RandomState(0).uniform(0, 0.1, start.shape).astype(np.float32)
    predictions = task.problem.decode(examples, features, logits, DecodeOptions(null_score_diff_threshold=1e9))
    gold = {example.id: [answer.text for answer in example.answers] for example in examples}
    texts = {id: prediction.text for id, prediction in predictions.items()}
    best = SquadV2Scorer(gold)(texts, null_odds(predictions), 1e9).values["best_f1"]
    scorer = task.scorer(examples)
    tuned = task.problem.tune(examples, features, logits, DecodeOptions(), scorer)
    assert scorer(task.problem.best_answers(examples, features, logits, tuned)).values["f1"] == pytest.approx(
        best, abs=1e-9
    )


def test_xquad_zh_is_scored_with_the_chinese_metric() -> None:
    gold = [Example("q", "?", "", (Answer("北京大学"),))]
    # Common substring of 2 characters; for SQuAD's own metric the prediction is one wrong word.
    assert get_task("xquad_zh").score(gold, {"q": "北京的大学"}).values["f1"] == pytest.approx(100 * 4 / 9)
    assert get_task("squad").score(gold, {"q": "北京的大学"}).values["f1"] == 0.0


def test_published_files_are_named_with_their_licence_and_checksum() -> None:
    for name in ("squad", "squad_v2", "xquad_zh"):
        sources = get_task(name).sources
        assert {source.split for source in sources} == ({"test"} if name == "xquad_zh" else {"train", "dev"})
        for source in sources:
            assert source.url.endswith("/" + source.file_name) and source.licence == "CC BY-SA 4.0"
            assert re.fullmatch("[0-9a-f]{64}", source.sha256) and source.n_bytes > 0


@pytest.mark.realdata
@pytest.mark.parametrize("lower", [True, False], ids=["uncased", "cased"])
@pytest.mark.parametrize("name", REAL)
def test_real_files_go_from_file_to_full_score(data_dir: Path, name: str, lower: bool) -> None:
    task_name, n_questions, n_answerable = REAL[name]
    task = get_task(task_name)
    examples, report = task.read(data_dir / "squad" / name)
    assert len(examples) == report.n_kept == n_questions and not report.dropped
    answers = [(example, answer) for example in examples for answer in example.answers]
    assert all(example.context[answer.char_start : answer.char_end] == answer.text for example, answer in answers)
    targets = [task.targets(example)[0] for example in examples]
    assert sum(target.kind == "span" for target in targets) == n_answerable

    tokenizer = vocabulary(
        [text for example in examples for text in (example.question, example.context)], lower=lower
    )
    defaults = {key: task.defaults[key] for key in ("max_seq_length", "doc_stride", "max_query_length")}
    features = encode(examples, targets, tokenizer, **defaults)
    labelled = features.targets["end"] > 0
    assert len(np.unique(features.example_index[labelled])) == n_answerable

    options = DecodeOptions(max_answer_length=task.defaults["max_answer_length"])
    predictions = task.problem.best_answers(examples, features, [oracle(features)], options)
    score = task.score(examples, predictions)
    # One answer ends inside a number, and one is longer than 30 pieces of the cased vocabulary.
    wrong = [(e, target) for e, target in zip(examples, targets, strict=True) if predictions[e.id] != target.text]
    assert len(wrong) <= 1
    pieces = tokenizer.encode([example.context for example, _ in wrong])
    spans = np.array([(target.char_start, target.char_end) for _, target in wrong]).reshape(-1, 2)
    place = align(pieces.spans, pieces.splits, np.arange(len(wrong)), spans[:, 0], spans[:, 1])
    assert (place.widened | (place.token_end - place.token_start >= options.max_answer_length)).all()
    n_right = sum(score.per_example[example.id]["em"] for example in examples)
    assert n_right == n_questions - len(wrong)
    if task_name == "squad_v2":
        assert score.values["NoAns_em"] == score.values["em"] == 100.0


@pytest.mark.realdata
def test_published_copy_of_xquad_zh_is_the_one_of_the_source(data_dir: Path) -> None:
    task = get_task("xquad_zh")
    content = (data_dir / "squad" / "xquad.zh.json").read_bytes()
    (source,) = task.sources
    assert (len(content), hashlib.sha256(content).hexdigest()) == (source.n_bytes, source.sha256)
    examples, report = task.read(data_dir / "squad" / "xquad.zh.json")
    assert len(examples) == 1190 and not report.dropped
    first = {example.id: example.answers[0].text for example in examples}
    assert task.score(examples, first).values == {"em": 100.0, "f1": 100.0, "average": 100.0}
