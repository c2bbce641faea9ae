"""The CJRC task: kinds come from the answers, labels from kinds, reports and files from predictions."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.readers.mrc import read_examples
from preprocess.tokenizers.base import load_tokenizer
from preprocess.types import NO_TARGET, Answer, Example, FeatureSet
from tasks.core.discovery import get_task
from tasks.core.task import TaskOptions

TASK = get_task("cjrc")
YES, NO, UNKNOWN = Answer("YES", kind="yes"), Answer("NO", kind="no"), Answer("", kind="unknown")


def read(folder: Path, *answers: tuple[str, int], context: str = "原告称YES,被告称NO", **keys: Any) -> Example:
    published = [{"text": text, "answer_start": start} for text, start in answers]
    question = {"id": "q", "question": "问？", "answers": published, **keys}
    article = {"caseid": 7, "domain": "civil", "paragraphs": [{"context": context, "qas": [question]}]}
    file = folder / "data.json"
    file.write_text(json.dumps({"data": [article]}), "utf-8")
    (example,), _ = TASK.read(file)
    return example


def test_yes_no_and_nothing_are_kinds_and_never_searched(tmp_path: Path) -> None:
    example = read(tmp_path, ("YES", -1), ("NO", -1), ("", -1), ("被告", 7))
    assert example.answers == (YES, NO, UNKNOWN, Answer("被告", 7, 9))
    assert (example.extra["domain"], example.group) == ("civil", "7")


def test_yes_that_stands_at_its_stated_start_is_a_span(tmp_path: Path) -> None:
    assert read(tmp_path, ("YES", 3)).answers == (Answer("YES", 3, 6),)
    assert read(tmp_path, ("YES", 4), ("", 0)).answers == (YES, UNKNOWN)


def test_is_impossible_has_no_say(tmp_path: Path) -> None:
    for flag in ("true", "false", True, False):
        assert TASK.targets(read(tmp_path, ("被告", 7), is_impossible=flag)) == (Answer("被告", 7, 9),)
        assert TASK.targets(read(tmp_path, is_impossible=flag)) == (UNKNOWN,)


def test_a_domain_that_counts_in_neither_total_is_noted(tmp_path: Path) -> None:
    # "Civil" for "civil" would leave f1_civil without a line about why.
    questions = [{"id": "q", "question": "问？", "answers": []}, {"id": "r", "question": "问？", "answers": []}]
    paragraphs = [[{"context": "甲", "qas": [question]}] for question in questions]
    articles = [{"domain": "Civil", "paragraphs": paragraphs[0]}, {"paragraphs": paragraphs[1]}]
    (tmp_path / "data.json").write_text(json.dumps({"data": articles}), "utf-8")
    _, report = TASK.read(tmp_path / "data.json")
    assert report.notes["domain_unknown"] == ["q"]
    assert str(report.problems[-1]) == (
        "q: domain_unknown: expected civil or criminal, found 'Civil'; scored in all, and in neither domain"
    )


def test_gold_without_contexts_has_kinds_all_the_same(tmp_path: Path) -> None:
    assert read(tmp_path, ("YES", -1), ("甲", 3), context="").answers == (YES, Answer("甲"))


def targets(policy: str | None, *answers: Answer) -> tuple[Answer, ...]:
    return get_task("cjrc", TaskOptions(answer_policy=policy)).targets(Example("q", "?", "甲乙丙", answers))


def test_answer_policies() -> None:
    first, second, lost = Answer("甲", 0, 1), Answer("乙", 1, 2), Answer("丁")
    for policy in (None, "first", "majority", "all"):
        assert targets(policy) == (UNKNOWN,)
        assert targets(policy, lost) == ()
        assert targets(policy, lost, YES) == (YES,)
    assert targets("first", UNKNOWN, first, first) == (UNKNOWN,)
    assert targets("majority", UNKNOWN, first, first) == (first,)
    assert targets("majority", YES, first, second) == (first,), (
        "two spans outvote one YES, and the first of them wins"
    )
    assert targets("majority", first, second, second) == (second,)
    assert targets("majority", NO, YES) == (NO,)
    assert targets("all", first, YES, first) == (first, YES)


def test_policy_is_part_of_the_version_unless_it_is_the_default() -> None:
    versions = [get_task("cjrc", TaskOptions(answer_policy=p)).version for p in ("first", "majority", "all")]
    assert versions == ["1", "1+majority", "1+all"]
    with pytest.raises(DataError, match="answer_policy 'best': expected one of first, majority, all"):
        get_task("cjrc", TaskOptions(answer_policy="best"))


def test_official_form_is_a_list() -> None:
    assert TASK.official is not None
    assert TASK.official((), {"1_1": "YES", "1_2": ""}) == [
        {"id": "1_1", "answer": "YES"},
        {"id": "1_2", "answer": ""},
    ]


def test_report_counts_the_kind_of_the_first_answer_against_the_predicted_one() -> None:
    assert TASK.report is not None
    answers: list[tuple[Answer, ...]] = [(YES, NO), (UNKNOWN, Answer("甲", 0, 1)), (), (Answer("甲", 0, 1),), (NO,)]
    examples = [Example(f"q{i}", "?", "甲", given) for i, given in enumerate(answers)]
    report = TASK.report(examples, {"q0": "YES", "q1": "甲", "q2": "", "q3": "NO", "other": "甲"})
    assert report["kinds"] == ["span", "unknown", "yes", "no"]
    assert report["confusion"] == [[0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert report["n_missing"] == 1
    assert report["classification"]["unknown"]["recall"] == 0.5 and report["classification"]["accuracy"] == 0.5
    assert json.loads(json.dumps(report)) == report
    assert any(line.split() == ["span", "0", "0", "0", "1"] for line in report["lines"])
    assert TASK.report(examples, {})["confusion"] == [[0] * 4] * 4


def test_files_are_named_by_their_published_urls() -> None:
    by_split = {source.split: source for source in TASK.sources}
    assert set(by_split) == {"train", "trial", "dev", "test"}
    for source in by_split.values():
        assert source.url.isascii() and source.url.endswith(f"/data/{source.file_name}")


@pytest.mark.realdata
def test_kinds_of_the_published_files_are_counted(data_dir: Path) -> None:
    counts = {}
    for name in ("dev_ground_truth", "small_train_sample55"):
        examples, report = TASK.read(data_dir / "cjrc" / f"{name}.json")
        assert report.n_kept == report.n_questions
        answers = [example.answers or (UNKNOWN,) for example in examples]
        counts[name] = Counter(answer.kind for given in answers for answer in given)
        assert all(a.located == (a.kind == "span") for given in answers for a in given)
    assert counts["dev_ground_truth"] == {"span": 12249, "yes": 1344, "no": 615, "unknown": 3792}
    assert counts["small_train_sample55"] == {"span": 215, "yes": 32, "no": 10, "unknown": 18}


@pytest.mark.realdata
def test_plain_reading_would_have_found_yes_and_no_in_contexts(data_dir: Path) -> None:
    examples, _ = read_examples(data_dir / "cjrc" / "dev_ground_truth.json")
    assert sum(a.located and a.text in ("YES", "NO") for e in examples for a in e.answers) == 2


@pytest.mark.realdata
@pytest.mark.parametrize("policy", ["first", "majority", "all"])
def test_every_dev_question_is_trained_on(data_dir: Path, policy: str) -> None:
    examples, _ = TASK.read(data_dir / "cjrc" / "dev_ground_truth.json")
    chosen = [get_task("cjrc", TaskOptions(answer_policy=policy)).targets(example) for example in examples]
    # Every answer stands at its first occurrence, so different answers are different texts.
    n_distinct = [len({answer.text for answer in example.answers}) for example in examples]
    assert list(map(len, chosen)) == (n_distinct if policy == "all" else [1] * 6000)
    if policy == "first":
        kinds = Counter(given[0].kind for given in chosen)
        assert kinds == {"span": 4099, "unknown": 1244, "yes": 449, "no": 208}


def encode_golden(data_dir: Path, golden_dir: Path, length: int, stride: int) -> tuple[list[Example], FeatureSet]:
    examples, _ = TASK.read(golden_dir / "features" / "cjrc_a.input.json")
    tokenizer = load_tokenizer(data_dir / "vocab" / "bert-base-chinese-vocab.txt")
    chosen = [TASK.targets(example)[0] for example in examples]
    return examples, TASK.problem.encode(examples, chosen, tokenizer, max_seq_length=length, doc_stride=stride)


@pytest.mark.golden
@pytest.mark.realdata
@pytest.mark.parametrize(("length", "stride", "n_moved"), [(512, 128, 5), (128, 64, 2)])
def test_labels_equal_the_original_program(
    data_dir: Path, golden_dir: Path, length: int, stride: int, n_moved: int
) -> None:
    examples, features = encode_golden(data_dir, golden_dir, length, stride)
    with gzip.open(golden_dir / "features" / f"cjrc_a.len{length}.stride{stride}.train.json.gz", "rt") as file:
        golden = json.load(file)
    by_id: dict[str, list[dict[str, Any]]] = {}
    for feature in golden["features"]:
        by_id.setdefault(golden["examples"][feature["example_index"]]["qid"], []).append(feature)
    dropped, moved = [], []
    for index, example in enumerate(examples):
        windows = np.flatnonzero(features.example_index == index)
        if example.id not in by_id:
            dropped.append(example.id)
            assert len(example.answers[0].text) > 256
            continue
        for window, theirs in zip(windows, by_id[example.id], strict=True):
            assert features.targets["kind"][window] == theirs["target_label"]
            start, end = int(features.targets["start"][window]), int(features.targets["end"][window])
            assert end == theirs["end_position"]
            if start != theirs["start_position"]:
                moved.append(example.id)
                # It skips a mark at the answer's start, or takes the letters before it ("x82009年") along.
                skips = example.answers[0].text[0] in "。，：:.,"
                assert theirs["start_position"] - start == (1 if skips else -1)
            assert (features.targets["kind"][window] == NO_TARGET) == (start > 0)
    # It drops training questions with answers of more than 256 characters; we train on them.
    assert dropped == ["459_2", "536_2", "893_5"]
    assert len(moved) == n_moved and set(moved) <= {"342_1", "355_4", "755_2"}
