"""Every question of the real files is accounted for, and every span is right."""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from preprocess.readers.mrc import read_examples
from preprocess.readers.report import DataReport
from preprocess.tokenizers.base import Tokenizer, load_tokenizer
from preprocess.types import Example
from tests.support.values import encode

pytestmark = pytest.mark.realdata

N_QUESTIONS = {
    "cmrc2018/cmrc2018_train.json": 10142,
    "cmrc2018/cmrc2018_dev.json": 3219,
    "cmrc2018/cmrc2018_trial.json": 1002,
    "cmrc2018/cmrc2018_dev.orig.json": 3219,
    "cmrc2018/cmrc2018_trial.orig.json": 1002,
    "drcd/DRCD_dev.json": 3524,
    "cjrc/dev_ground_truth.json": 6000,
    "cjrc/small_train_sample55.json": 275,
    "squad/squad-dev-v2.0-normans-only.json": 208,
    "squad/xquad.zh.json": 1190,
}


@functools.cache
def read(data_dir: Path, name: str, unit: str | None = None) -> tuple[list[Example], DataReport]:
    return read_examples(data_dir / name, offset_unit=unit or ("utf16" if "cmrc" in name else "codepoint"))  # type: ignore[arg-type]


@functools.cache
def tokenizer(data_dir: Path, lower: bool = True) -> Tokenizer:
    return load_tokenizer(data_dir / "vocab" / "bert-base-chinese-vocab.txt", do_lower_case=lower)


def answer_notes(report: DataReport) -> dict[str, int]:
    return {kind: len(ids) for kind, ids in report.notes.items() if kind.startswith("answer") or kind == "searched"}


@pytest.mark.parametrize("name", N_QUESTIONS)
def test_every_question_is_kept_and_every_place_is_right(data_dir: Path, name: str) -> None:
    examples, report = read(data_dir, name)
    assert len(examples) == report.n_kept == report.n_questions == N_QUESTIONS[name] and not report.dropped
    for example in examples:
        for answer in example.answers:
            assert not answer.located or example.context[answer.char_start : answer.char_end] == answer.text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train.json", {"answer_unstripped": 37}),
        ("dev.json", {"answer_not_in_context": 193, "answer_unstripped": 13}),
        ("trial.json", {"answer_unstripped": 3}),
        (
            "dev.orig.json",
            {"answer_not_in_context": 193, "answer_unstripped": 13, "answer_not_string": 29, "searched": 9464},
        ),
        ("trial.orig.json", {"answer_unstripped": 3, "searched": 1002}),
    ],
)
def test_the_known_oddities_of_cmrc2018_are_counted(data_dir: Path, name: str, expected: dict[str, int]) -> None:
    assert answer_notes(read(data_dir, f"cmrc2018/cmrc2018_{name}")[1]) == expected


@pytest.mark.parametrize(("name", "count"), [("train", 21), ("dev", 7), ("trial", 5)])
def test_the_33_answers_behind_astral_characters_are_right_in_either_unit(
    data_dir: Path, name: str, count: int
) -> None:
    file = f"cmrc2018/cmrc2018_{name}.json"
    by_units, _ = read(data_dir, file)
    by_points, report = read(data_dir, file, "codepoint")
    assert len(report.notes["answer_start_utf16"]) == count and "relocated" not in report.notes
    assert by_units == by_points


def test_both_layouts_place_the_answers_alike(data_dir: Path) -> None:
    for name in ("dev", "trial"):
        squad, original = (read(data_dir, f"cmrc2018/cmrc2018_{name}{end}.json")[0] for end in ("", ".orig"))
        assert [example.answers for example in squad] == [example.answers for example in original]
        assert [example.context for example in squad] == [example.context for example in original]


@pytest.mark.parametrize(
    ("name", "at_512", "at_384"),
    [
        ("cmrc2018/cmrc2018_train.json", 17088, 23424),
        ("cmrc2018/cmrc2018_dev.json", 5528, 7717),
        ("cmrc2018/cmrc2018_trial.json", 1746, 2446),
        ("drcd/DRCD_dev.json", 5422, 7847),
        ("cjrc/dev_ground_truth.json", 14340, 18763),
    ],
)
def test_window_counts_are_the_published_ones(data_dir: Path, name: str, at_512: int, at_384: int) -> None:
    examples, _ = read(data_dir, name)
    for length, expected in ((512, at_512), (384, at_384)):
        assert len(encode(examples, [None] * len(examples), tokenizer(data_dir), max_seq_length=length)) == expected


def test_training_labels_spell_the_answer(data_dir: Path) -> None:
    examples, _ = read(data_dir, "cmrc2018/cmrc2018_train.json")
    targets = [example.answers[0] for example in examples]
    features = encode(examples, targets, tokenizer(data_dir))
    counts = features.meta["counts"]
    assert counts["target_widened"] == 5 and counts["target_without_piece"] == counts["target_in_no_window"] == 0
    assert counts["query_truncated"] == 9
    n_labels = 0
    for window in np.flatnonzero(features.targets["end"]):
        example = features.example_index[window]
        first_piece = features.piece_splits[features.context_index[window]] + features.piece_start[window]
        position = np.array([features.targets["start"][window], features.targets["end"][window]])
        low, high = first_piece + position - features.doc_offset[window]
        start, end = features.piece_spans[low, 0], features.piece_spans[high, 1]
        text, target = examples[example].context[start:end], targets[example]
        n_labels += 1
        if text != target.text:  # dropped characters at the edges, or one of the five widened answers
            assert target.text.strip() in text or text in target.text, examples[example].id
            assert len(text) - len(target.text.strip()) <= 3, examples[example].id
    assert n_labels >= len(examples)


@pytest.mark.parametrize(
    ("name", "lower"),
    [*((name, True) for name in N_QUESTIONS if "orig" not in name), ("cmrc2018/cmrc2018_dev.json", False)],
)
def test_every_piece_stands_where_its_span_says(data_dir: Path, name: str, lower: bool) -> None:
    examples, _ = read(data_dir, name)
    contexts = list(dict.fromkeys(example.context for example in examples))
    tok = tokenizer(data_dir, lower)
    tokens = tok.tokens
    encoded = tok.encode(contexts)
    assert (encoded.spans[:, 0] < encoded.spans[:, 1]).all()
    for index, context in enumerate(contexts):
        part = slice(encoded.splits[index], encoded.splits[index + 1])
        spans = encoded.spans[part]
        assert (np.diff(spans, axis=0) >= 0).all() and spans.max(initial=0) <= len(context)
        for piece, (start, end) in zip(encoded.ids[part], spans.tolist(), strict=True):
            token = tokens[piece].removeprefix("##")
            surface = context[start:end]
            if piece != tok.special_ids["unk"] and surface != token:
                # A Hangul syllable is several pieces of one character, so "contained" is what can be asked.
                assert token in normal(surface, lower), (token, surface)


def normal(text: str, lower: bool) -> str:
    if not lower:
        return "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf"))
    decomposed = unicodedata.normalize("NFD", text)
    kept = "".join(c for c in decomposed if unicodedata.category(c) not in ("Mn", "Cc", "Cf")).lower()
    return "".join(c for c in unicodedata.normalize("NFD", kept) if unicodedata.category(c) != "Mn")
