"""The demo corpus: reproducible, without leakage, with UTF-16 offsets, and out of reach of trivial baselines."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "examples" / "corpus"


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_corpus", ROOT / "examples" / "make_corpus.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up.
    spec.loader.exec_module(module)
    return module


@cache
def read(name: str) -> Any:
    return json.loads((CORPUS / name).read_text(encoding="utf-8"))


def paragraphs(split: str) -> list[dict[str, Any]]:
    return [paragraph for article in read(f"demo_{split}.json")["data"] for paragraph in article["paragraphs"]]


def questions(split: str) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(context, question, answers) of every question."""
    return [(p["context"], qa["question"], qa["answers"]) for p in paragraphs(split) for qa in p["qas"]]


def utf16_slice(text: str, start: int, length: int) -> str:
    return text.encode("utf-16-le")[2 * start : 2 * (start + length)].decode("utf-16-le")


def exact_match(guesses: list[str], gold: list[tuple[str, str, list[dict[str, Any]]]]) -> float:
    """Percent, after dropping punctuation, as the official scorer does."""

    def bare(text: str) -> str:
        return re.sub(r"[《》，。\s]", "", text)

    hits = [bare(g) in {bare(a["text"]) for a in answers} for g, (_, _, answers) in zip(guesses, gold, strict=True)]
    return 100 * sum(hits) / len(hits)


def test_committed_corpus_is_what_the_generator_writes() -> None:
    built = generator().build()
    assert {name: text.encode() for name, text in built.items()} == {p.name: p.read_bytes() for p in CORPUS.iterdir()}


def test_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 1_500_000


@pytest.mark.parametrize(("split", "n_answers"), [("train", 1), ("dev", 3)])
def test_every_answer_stands_at_its_utf16_offset(split: str, n_answers: int) -> None:
    for context, question, answers in questions(split):
        assert len(answers) == n_answers
        for answer in answers:
            n_units = len(answer["text"].encode("utf-16-le")) // 2
            assert utf16_slice(context, answer["answer_start"], n_units) == answer["text"], question


@pytest.mark.parametrize("split", ["train", "dev"])
def test_some_offsets_count_differently_in_code_points(split: str) -> None:
    differ = [
        answer["text"]
        for context, _, answers in questions(split)
        for answer in answers
        if context[answer["answer_start"] :][: len(answer["text"])] != answer["text"]
    ]
    assert differ


@pytest.mark.parametrize("split", ["train", "dev"])
def test_ids_are_those_of_the_real_layout_and_unique(split: str) -> None:
    seen = []
    for i, paragraph in enumerate(paragraphs(split)):
        assert paragraph["id"] == f"DEMO_{split.upper()}_{i}"
        assert [qa["id"] for qa in paragraph["qas"]] == [
            f"{paragraph['id']}_QUERY_{j}" for j in range(len(paragraph["qas"]))
        ]
        seen += [qa["id"] for qa in paragraph["qas"]]
    assert len(set(seen)) == len(seen)


def test_original_layout_holds_the_same_questions() -> None:
    flat = [
        (c["context_id"], c["context_text"], q["query_id"], q["query_text"], q["answers"])
        for c in read("demo_dev.orig.json")
        for q in c["qas"]
    ]
    assert flat == [
        (p["id"], p["context"], qa["id"], qa["question"], [a["text"] for a in qa["answers"]])
        for p in paragraphs("dev")
        for qa in p["qas"]
    ]


def test_no_dev_context_answer_or_entity_occurs_in_train() -> None:
    train = "\n".join(p["context"] for p in paragraphs("train"))
    assert not [p["context"] for p in paragraphs("dev") if p["context"] in train]
    answers = {answer["text"] for _, _, gold in questions("dev") for answer in gold}
    assert not [answer for answer in answers if answer in train]
    titles = {article["title"] for article in read("demo_dev.json")["data"]}
    assert not [person for person in titles if person in train]


def test_every_character_of_dev_is_in_the_vocabulary_and_in_train() -> None:
    train = set("".join(c + q for c, q, _ in questions("train")).lower())
    dev = set("".join(c + q for c, q, _ in questions("dev")).lower())
    vocab = (CORPUS / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert dev <= train
    assert train <= set(vocab)
    assert len(set(vocab)) == len(vocab) == read("config.json")["vocab_size"]


def test_the_question_decides_which_answer_of_a_context_is_right() -> None:
    for split in ("train", "dev"):
        by_context: dict[str, list[tuple[str, str]]] = {}
        for context, question, answers in questions(split):
            by_context.setdefault(context, []).append((question, answers[0]["text"]))
        for asked in by_context.values():
            assert len(asked) >= 6
            assert len({answer for _, answer in asked}) == len({question for question, _ in asked}) == len(asked)


def test_some_contexts_ask_for_two_people() -> None:
    """The one confusable pair: teacher and friend differ by what stands before them, not by spelling."""
    asked = [[qa["question"] for qa in p["qas"]] for p in paragraphs("dev")]
    both = [qs for qs in asked if any("老师" in q for q in qs) and any("好友" in q for q in qs)]
    assert len(both) >= len(asked) / 10


def test_first_sentence_and_random_span_score_near_zero() -> None:
    dev = questions("dev")
    rng = random.Random(0)
    first = [context.split("。")[0] for context, _, _ in dev]
    spans = []
    for context, _, answers in dev:
        length = len(answers[0]["text"])
        start = rng.randrange(len(context) - length)
        spans.append(context[start : start + length])
    assert exact_match([answers[0]["text"] for _, _, answers in dev], dev) == 100
    assert exact_match(first, dev) < 5
    assert exact_match(spans, dev) < 5
