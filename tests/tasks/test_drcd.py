"""DRCD: the model reads simplified text, users and the official metric see the traditional original."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.text.opencc import opencc_version
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import Answer, Example, FeatureSet, Outputs
from tasks.core.discovery import get_task
from tasks.core.prediction import DecodeOptions
from tasks.core.task import Task, TaskOptions
from tasks.drcd import TASK
from tests.support.values import encode, span_outputs

CONTEXT = "國語是國語。索馬利亞在非洲。"


def configured(config: str | None) -> Task:
    return get_task("drcd", TaskOptions(opencc_config=config))


def write(path: Path, *answers: tuple[str, int], context: str = CONTEXT) -> Path:
    qas = [{"id": "1-1-1", "question": "是什麼？", "answers": [{"text": t, "answer_start": s} for t, s in answers]}]
    data = {"version": "1.3", "data": [{"title": "", "paragraphs": [{"context": context, "qas": qas}]}]}
    path.write_text(json.dumps(data), "utf-8")
    return path


def characters() -> WordPieceTokenizer:
    pieces = dict.fromkeys([*SPECIAL_TOKENS, *"国语是。索马里在非洲什么？"])
    return WordPieceTokenizer(pieces)


def pointing_at(features: FeatureSet, start: int, end: int) -> list[Outputs]:
    """Outputs of one window that want context pieces start to end (inclusive)."""
    scores = np.zeros((2, 1, int(features.lengths[0])), np.float32)
    scores[0, 0, features.doc_offset[0] + start] = scores[1, 0, features.doc_offset[0] + end] = 9.0
    return [span_outputs(np.zeros(1, np.int32), scores[0], scores[1])]


def test_the_label_stands_where_answer_start_says_and_not_at_the_first_occurrence(tmp_path: Path) -> None:
    (example,), report = TASK.read(write(tmp_path / "drcd.json", ("國語", 3), ("國語", 0)))
    assert report.n_kept == 1
    assert TASK.targets(example) == (Answer("國語", 3, 5),)
    features = encode([example], [TASK.targets(example)[0]], characters(), transform=TASK.transform)
    start = features.doc_offset[0] + 3
    assert (features.targets["start"][0], features.targets["end"][0]) == (start, start + 1)


def test_answer_start_counts_code_points(tmp_path: Path) -> None:
    # In UTF-16 units, 2 would be the first 國: the character before it takes two.
    (example,), _ = TASK.read(write(tmp_path / "drcd.json", ("國", 2), context="𠮷國國"))
    assert TASK.targets(example) == (Answer("國", 2, 3),)


def test_an_answer_without_a_place_is_not_trained_on(tmp_path: Path) -> None:
    (example,), _ = TASK.read(write(tmp_path / "drcd.json", ("日語", 3), ("國語", 3)))
    assert TASK.targets(example) == (Answer("國語", 3, 5),)
    (example,), _ = TASK.read(write(tmp_path / "drcd.json", ("日語", 3)))
    assert TASK.targets(example) == ()


@pytest.mark.parametrize(
    ("config", "pieces", "answer"),
    [
        ("t2s", (3, 4), "國語"),
        ("tw2sp", (3, 4), "國語"),
        ("tw2sp", (6, 8), "索馬利亞"),  # 索马里: three pieces, four original characters
        ("tw2sp", (7, 7), "索馬利亞"),  # a part of what was converted as one is the whole of it
        ("tw2sp", (10, 11), "非洲"),
        ("t2s", (11, 12), "非洲"),
    ],
)
def test_predictions_are_slices_of_the_traditional_text(config: str, pieces: tuple[int, int], answer: str) -> None:
    task, examples = configured(config), [Example("q", "是什麼？", CONTEXT, (Answer("國語", 3, 5),))]
    features = encode(examples, [None], characters(), transform=task.transform)
    prediction = task.problem.decode(examples, features, pointing_at(features, *pieces), DecodeOptions())["q"]
    assert prediction.text == answer == CONTEXT[prediction.char_start : prediction.char_end]
    assert task.problem.best_answers(examples, features, pointing_at(features, *pieces), DecodeOptions()) == {
        "q": answer
    }


def test_official_scores_are_of_the_published_text_and_simplified_ones_are_named() -> None:
    examples = [
        Example("a", "", CONTEXT, (Answer("國語", 3, 5), Answer("是國語", 2, 5))),
        Example("b", "", CONTEXT, (Answer("非洲", 11, 13),)),
    ]
    score = TASK.score(examples, {"a": "国语", "b": "非洲", "other": "國"})
    assert score.values == {
        "em": 50.0,
        "f1": 50.0,
        "average": 50.0,
        "em_simplified": 100.0,
        "f1_simplified": 100.0,
        "average_simplified": 100.0,
    }
    assert score.per_example["a"] == {"em": 0.0, "f1": 0.0, "em_simplified": 1.0, "f1_simplified": 1.0}
    assert (score.n, score.n_missing) == (2, 0)
    traditional = TASK.score(examples, {"a": "國語"})
    assert traditional.values["em"] == traditional.values["em_simplified"] == 50.0 and traditional.n_missing == 1


def test_simplified_scores_use_the_converter_of_the_task() -> None:
    examples = [Example("a", "", "", (Answer("索馬利亞"),))]
    assert configured("t2s").score(examples, {"a": "索马里"}).values["em_simplified"] == 0.0
    assert configured("tw2sp").score(examples, {"a": "索马里"}).values["em_simplified"] == 100.0
    assert configured("tw2sp").score(examples, {"a": "索马里"}).values["em"] == 0.0


@pytest.mark.parametrize("config", ["none", "s2t"])
def test_text_that_is_not_simplified_has_no_simplified_score(config: str) -> None:
    score = configured(config).score([Example("a", "", "", (Answer("國語"),))], {"a": "國語"})
    assert score.values == {"em": 100.0, "f1": 100.0, "average": 100.0}
    assert score.per_example == {"a": {"em": 1.0, "f1": 1.0}}


def test_predictions_that_are_no_text_are_scored_as_text() -> None:
    score = TASK.score([Example("a", "", "", (Answer("2018"),)), Example("b", "", "", (Answer("年"),))], {"a": 2018})
    assert score.values["em"] == score.values["em_simplified"] == 50.0


def test_the_version_names_the_converter() -> None:
    assert TASK.version == f"2+opencc-{opencc_version()}-t2s"
    assert configured(None) == get_task("drcd") and configured("t2s").version == TASK.version
    assert configured("tw2sp").version == f"2+opencc-{opencc_version()}-tw2sp"
    none = configured("none")
    assert none.version == "2+opencc-none" and none.transform is None
    assert TASK.transform is not None and TASK.transform.name in TASK.version


def test_unknown_converters_and_foreign_options_are_refused() -> None:
    with pytest.raises(DataError, match=r"unknown OpenCC configuration 't2ss'; did you mean 't2s'\?.*tw2sp"):
        configured("t2ss")
    with pytest.raises(DataError, match=r"no option --answer_policy \(its options: --opencc_config\)"):
        get_task("drcd", TaskOptions(answer_policy="first"))


def test_sources_are_the_published_files() -> None:
    assert [source.split for source in TASK.sources] == ["train", "dev", "test"]
    for source in TASK.sources:
        assert source.url.startswith("https://raw.githubusercontent.com/DRCKnowledgeTeam/DRCD/")
        assert source.url.endswith(f"/{source.file_name}") and source.licence == "CC BY-SA 3.0"


@pytest.mark.realdata
def test_the_published_dev_file_is_the_source(data_dir: Path) -> None:
    content = (data_dir / "drcd" / "DRCD_dev.json").read_bytes()
    source = TASK.sources[1]
    assert (source.n_bytes, source.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.golden
def test_checksums_are_those_of_the_golden_sources(golden_dir: Path) -> None:
    published = json.loads((golden_dir / "metrics" / "gold" / "SOURCES.json").read_text("utf-8"))
    for source in TASK.sources[1:]:
        assert source.sha256 == published[f"drcd_{source.split}"]["sha256"]


@pytest.mark.golden
@pytest.mark.parametrize("name", ["drcd_dev.s1.n025", "drcd_dev.s2.n075.miss"])
@pytest.mark.parametrize("config", ["none", "t2s", "tw2sp"])
def test_scores_equal_the_official_script(golden_dir: Path, name: str, config: str, tmp_path: Path) -> None:
    metrics = golden_dir / "metrics"
    gold = tmp_path / "gold.json"
    gold.write_bytes(gzip.decompress((metrics / "gold" / "drcd_dev.json.gz").read_bytes()))
    predictions = json.loads(gzip.decompress((metrics / "pred" / f"{name}.json.gz").read_bytes()))
    task = configured(config)
    score = task.score(task.read(gold)[0], predictions)
    expected: Mapping[str, Mapping[str, float]] = json.loads((metrics / "scores.json").read_text("utf-8"))[name]
    v6 = expected["cmrc_v6_py3"]
    assert score.values["em"] == v6["EM"] == expected["chinese_xlnet_drcd_py2"]["EM"]
    for ours, theirs in (("f1", "F1"), ("average", "AVERAGE")):
        assert score.values[ours] == pytest.approx(v6[theirs], abs=1e-6)
        # The Python 2 script ran on NLTK 3.4.5, which splits words otherwise: up to 0.04 points.
        assert score.values[ours] == pytest.approx(expected["chinese_xlnet_drcd_py2"][theirs], abs=0.04)
    assert (score.n, score.n_missing) == (v6["TOTAL"], v6["SKIP"])


@pytest.mark.realdata
def test_searching_for_the_text_would_misplace_what_answer_start_places(data_dir: Path) -> None:
    examples, report = TASK.read(data_dir / "drcd" / "DRCD_dev.json")
    assert not report.notes and not report.dropped
    answers = [(example.context, answer) for example in examples for answer in example.answers]
    assert len(answers) == 7048
    assert all(context[a.char_start : a.char_end] == a.text for context, a in answers)
    assert sum(context.find(a.text) != a.char_start for context, a in answers) == 994
    targets = [(example.context, TASK.targets(example)[0]) for example in examples]
    published = json.loads((data_dir / "drcd" / "DRCD_dev.json").read_text("utf-8"))["data"]
    starts = [qa["answers"][0]["answer_start"] for a in published for p in a["paragraphs"] for qa in p["qas"]]
    assert [target.char_start for _, target in targets] == starts
    assert sum(context.find(target.text) != target.char_start for context, target in targets) == 504
