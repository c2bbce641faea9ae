"""The demo corpora: reproducible, without leakage, in the published layouts, out of reach of trivial baselines."""

from __future__ import annotations

import importlib
import json
import random
import re
import sys
from collections import Counter
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from experiment.options.flags import TrainOptions
from preprocess.text.opencc import opencc_transform
from tasks.core.discovery import get_task

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "examples" / "corpus"
FILES = {"cmrc2018": "demo", "drcd": "demo_drcd", "cjrc": "demo_cjrc"}
ROWS = {"msra_ner": "demo_ner", "lcqmc": "demo_pairs"}
SPECIAL = {"YES", "NO", ""}
each_task = pytest.mark.parametrize("task", FILES)
each_split = pytest.mark.parametrize("split", ["train", "dev"])


@cache
def module(name: str) -> ModuleType:
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@cache
def read(name: str) -> Any:
    return json.loads((CORPUS / name).read_text(encoding="utf-8"))


def articles(task: str, split: str) -> list[dict[str, Any]]:
    return read(f"{FILES[task]}_{split}.json")["data"]


def paragraphs(task: str, split: str) -> list[dict[str, Any]]:
    return [paragraph for article in articles(task, split) for paragraph in article["paragraphs"]]


def questions(task: str, split: str) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(context, question, answers) of every question."""
    return [(p["context"], qa["question"], qa["answers"]) for p in paragraphs(task, split) for qa in p["qas"]]


def cases(split: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(domain, context, question) of every question of the CJRC corpus."""
    return [
        (a["domain"], p["context"], qa) for a in articles("cjrc", split) for p in a["paragraphs"] for qa in p["qas"]
    ]


def first_answer(qa: dict[str, Any]) -> str:
    return qa["answers"][0]["text"] if qa["answers"] else ""


def utf16_slice(text: str, start: int, length: int) -> str:
    return text.encode("utf-16-le")[2 * start : 2 * (start + length)].decode("utf-16-le")


def score(task: str, answer: Any) -> dict[str, float]:
    """The official score on dev of answering each example with `answer(example)`."""
    adapter = get_task(task)
    examples, _ = adapter.read(CORPUS / f"{FILES[task]}_dev.json")
    return dict(adapter.score(examples, {example.id: answer(example) for example in examples}).values)


def test_committed_corpora_are_what_the_generator_writes() -> None:
    built = module("make_corpus").build()
    assert {name: text.encode() for name, text in built.items()} == {p.name: p.read_bytes() for p in CORPUS.iterdir()}


def test_corpora_are_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 2_750_000


@pytest.mark.parametrize("recipe", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_name_options_of_the_command_and_files_of_the_corpus(recipe: Path) -> None:
    options = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    assert set(options) <= {field.name for field in fields(TrainOptions)}
    name = (FILES | ROWS)[options["task"]]
    suffix = "tsv" if options["task"] in ROWS else "json"
    files = [f"examples/corpus/{name}_{split}.{suffix}" for split in ("train", "dev")]
    assert [options["train_file"], options["validation_file"]] == files
    assert all((ROOT / options[name]).is_file() for name in options if name.endswith(("_file", "_name")))


@each_task
@each_split
def test_the_task_reads_every_question_and_finds_every_answer(task: str, split: str) -> None:
    examples, report = get_task(task).read(CORPUS / f"{FILES[task]}_{split}.json")
    assert (report.n_kept, report.dropped, report.problems) == (report.n_questions, {}, [])
    assert len(examples) == report.n_questions == len(questions(task, split))
    assert set(report.notes) <= {"no_answers"}
    for example in examples:
        for answer in example.answers:
            assert answer.located == (answer.kind == "span") == (answer.text not in SPECIAL)


@each_split
def test_names_are_tagged_where_they_stand_and_questions_are_paired(split: str) -> None:
    task = get_task("msra_ner")
    examples, report = task.read(CORPUS / f"demo_ner_{split}.tsv")
    assert not report.lost and not report.notes
    lives = articles("cmrc2018", split)[: len(examples)]
    assert len(examples) == {"train": 300, "dev": 60}[split]
    for example, article in zip(examples, lives, strict=True):
        assert example.context == article["paragraphs"][0]["context"]
        places = {answer.text for answer in example.answers if answer.kind == "PER"}
        assert article["title"] in places
        asked = {qa["question"]: first_answer(qa) for p in article["paragraphs"] for qa in p["qas"]}
        for question, kind in (("老师", "PER"), ("寺庙", "ORG"), ("出生", "LOC")):
            told = {text for asking, text in asked.items() if question in asking}
            assert told <= {answer.text for answer in example.answers if answer.kind == kind}
    pairs, report = get_task("lcqmc").read(CORPUS / f"demo_pairs_{split}.tsv")
    assert not report.lost and not report.notes
    assert Counter(pair.answers[0].text for pair in pairs) == {"0": len(pairs) // 2, "1": len(pairs) // 2}
    assert all(pair.question != pair.context for pair in pairs)


@each_task
def test_no_dev_context_answer_or_name_occurs_in_train(task: str) -> None:
    train = "\n".join(p["context"] for p in paragraphs(task, "train"))
    contexts = [p["context"] for p in paragraphs(task, "dev")]
    assert not [context for context in contexts if context in train]
    answers = {answer["text"] for _, _, gold in questions(task, "dev") for answer in gold} - SPECIAL
    assert len(answers) >= 200
    assert not [answer for answer in answers if answer in train]
    names = {article.get("title") for article in articles(task, "dev")} - {None}
    names |= {name for context in contexts for name in re.findall(r"[告人](.x\d+|.某.)", context)}
    assert len(names) >= 20
    assert not [name for name in names if name in train]


@each_task
def test_every_character_of_dev_is_in_train_and_in_the_vocabulary(task: str) -> None:
    """DRCD counts as the model reads it: in simplified characters."""
    transform = get_task(task).transform
    convert = transform.convert if transform is not None else str
    train = set(convert("".join(c + q for c, q, _ in questions(task, "train"))).lower())
    dev = set(convert("".join(c + q for c, q, _ in questions(task, "dev"))).lower())
    vocab = (CORPUS / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert dev <= train
    assert train <= set(vocab)
    assert len(set(vocab)) == len(vocab) == read("config.json")["vocab_size"]


@pytest.mark.parametrize("task", ["cmrc2018", "drcd"])
@each_split
def test_the_question_decides_which_answer_of_a_life_is_right(task: str, split: str) -> None:
    by_context: dict[str, list[tuple[str, str]]] = {}
    for context, question, answers in questions(task, split):
        by_context.setdefault(context, []).append((question, answers[0]["text"]))
    for asked in by_context.values():
        assert len(asked) >= 6
        assert len({answer for _, answer in asked}) == len({question for question, _ in asked}) == len(asked)


def test_some_contexts_ask_for_two_people() -> None:
    """The one confusable pair: teacher and friend differ by what stands before them, not by spelling."""
    asked = [[qa["question"] for qa in p["qas"]] for p in paragraphs("cmrc2018", "dev")]
    both = [qs for qs in asked if any("老师" in q for q in qs) and any("好友" in q for q in qs)]
    assert len(both) >= len(asked) / 10


@pytest.mark.parametrize("task", ["cmrc2018", "drcd"])
def test_first_sentence_and_random_span_score_near_zero(task: str) -> None:
    rng = random.Random(0)

    def random_span(example: Any) -> str:
        length = len(example.answers[0].text)
        start = rng.randrange(len(example.context) - length)
        return example.context[start : start + length]

    assert score(task, lambda example: example.answers[0].text)["em"] == 100
    assert score(task, lambda example: re.split("[。，]", example.context)[0])["em"] < 5
    assert score(task, random_span)["em"] < 5


@pytest.mark.parametrize(("split", "n_answers"), [("train", 1), ("dev", 3)])
def test_cmrc2018_answers_stand_at_their_utf16_offsets(split: str, n_answers: int) -> None:
    differ = 0
    for context, question, answers in questions("cmrc2018", split):
        assert len(answers) == n_answers
        for answer in answers:
            start, text = answer["answer_start"], answer["text"]
            assert utf16_slice(context, start, len(text.encode("utf-16-le")) // 2) == text, question
            differ += not context.startswith(text, start)
    assert differ


@each_split
def test_cmrc2018_ids_are_those_of_the_real_layout_and_unique(split: str) -> None:
    for i, paragraph in enumerate(paragraphs("cmrc2018", split)):
        assert paragraph["id"] == f"DEMO_{split.upper()}_{i}"
        assert [qa["id"] for qa in paragraph["qas"]] == [
            f"{paragraph['id']}_QUERY_{j}" for j in range(len(paragraph["qas"]))
        ]


def test_original_layout_holds_the_same_questions() -> None:
    flat = [
        (c["context_id"], c["context_text"], q["query_id"], q["query_text"], q["answers"])
        for c in read("demo_dev.orig.json")
        for q in c["qas"]
    ]
    assert flat == [
        (p["id"], p["context"], qa["id"], qa["question"], [a["text"] for a in qa["answers"]])
        for p in paragraphs("cmrc2018", "dev")
        for qa in p["qas"]
    ]


@pytest.mark.parametrize(("split", "answer_ids"), [("train", ["1"]), ("dev", ["1", "2"])])
def test_drcd_answers_stand_at_their_code_points_often_not_first(split: str, answer_ids: list[str]) -> None:
    repeated = behind_astral = 0
    for context, question, answers in questions("drcd", split):
        assert [answer["id"] for answer in answers] == answer_ids
        for answer in answers:
            start, text = answer["answer_start"], answer["text"]
            assert context.startswith(text, start), question
            repeated += context.find(text) < start
            behind_astral += any(ord(c) > 0xFFFF for c in context[:start])
    assert repeated >= 5
    assert behind_astral or split == "dev"  # As in the real dev file.


@each_split
def test_drcd_articles_have_several_paragraphs_and_ids_of_three_numbers(split: str) -> None:
    sizes = Counter(len(article["paragraphs"]) for article in articles("drcd", split))
    assert set(sizes) == {1, 2, 3, 4}
    for article in articles("drcd", split):
        assert article["id"].isdigit()
        for i, paragraph in enumerate(article["paragraphs"], start=1):
            assert paragraph["id"] == f"{article['id']}-{i}"
            numbers = range(1, len(paragraph["qas"]) + 1)
            assert [qa["id"] for qa in paragraph["qas"]] == [f"{paragraph['id']}-{j}" for j in numbers]
    assert {question[-1] for _, question, _ in questions("drcd", split)} == {"?", "？"}


@each_split
def test_drcd_is_traditional_and_converts_back_character_by_character(split: str) -> None:
    transform = opencc_transform("t2s")
    assert transform is not None
    for context, question, _ in questions("drcd", split):
        assert transform.convert(context) != context
        for text in (context, question):
            simplified = transform.convert(text)
            assert len(simplified) == len(text)
            assert module("corpus_traditional").traditional(simplified) == text


def test_cjrc_layouts_are_those_of_training_and_dev() -> None:
    for split, answers_of_unknown, id_pattern in (
        ("train", [], r"demo\d{4}\.txt_\d{3}"),
        ("dev", [{"answer_start": -1, "text": ""}] * 3, r"\d+_\d"),
    ):
        for _, context, qa in cases(split):
            assert re.fullmatch(id_pattern, qa["id"])
            assert qa["is_impossible"] in ("true", "false")
            if first_answer(qa) == "":
                assert qa["answers"] == answers_of_unknown
                continue
            assert len(qa["answers"]) == (1 if split == "train" else 3)
            for answer in qa["answers"]:
                start, text = answer["answer_start"], answer["text"]
                assert start == -1 if text in SPECIAL else context.startswith(text, start)
        ids = [qa["id"] for _, _, qa in cases(split)]
        assert len(set(ids)) == len(ids)
        assert all(article["paragraphs"][0]["casename"] for article in articles("cjrc", split))


@each_split
def test_cjrc_domains_are_halves_and_civil_cases_have_only_ascii_commas(split: str) -> None:
    domains = [article["domain"] for article in articles("cjrc", split)]
    assert domains == ["civil"] * (len(domains) // 2) + ["criminal"] * (len(domains) // 2)
    by_domain = {name: {c for d, c, _ in cases(split) if d == name} for name in ("civil", "criminal")}
    assert not re.search("[，。]", "".join(by_domain["civil"]))
    assert all("，" in context and context.endswith("。") for context in by_domain["criminal"])


@each_split
def test_cjrc_kinds_are_all_frequent_and_some_labels_contradict_the_answers(split: str) -> None:
    kinds = Counter(first_answer(qa) if first_answer(qa) in SPECIAL else "span" for _, _, qa in cases(split))
    shares = {kind: 100 * n / sum(kinds.values()) for kind, n in kinds.items()}
    assert 35 <= shares["span"] <= 50
    assert all(15 <= shares[kind] <= 25 for kind in SPECIAL)
    impossible = Counter((first_answer(qa) == "", qa["is_impossible"]) for _, _, qa in cases(split))
    assert impossible[True, "false"] == 0
    assert 0.01 < impossible[False, "true"] / impossible[False, "false"] < 0.1


def test_cjrc_annotators_sometimes_disagree_about_the_kind() -> None:
    mixed = [qa for _, _, qa in cases("dev") if len({a["text"] in SPECIAL for a in qa["answers"]}) == 2]
    assert 3 <= len(mixed) < 20


@each_split
def test_cjrc_answers_follow_from_the_text_alone(split: str) -> None:
    """A reader who knows the grammar finds every answer, and that the unknown ones are not told."""
    grammar = module("corpus_cases")
    domains = {domain.name: domain for domain in (grammar.CIVIL, grammar.CRIMINAL)}
    for domain, context, qa in cases(split):
        facts = [*domains[domain].attributes, *grammar.CLAIMS]
        (fact,) = [fact for fact in facts if qa["question"] in fact.questions]
        if isinstance(fact, grammar.Claim):
            told = [text for text, phrase in (("YES", fact.yes), ("NO", fact.no)) if phrase in context]
        else:
            told = re.findall(fact.clause.replace("X", f"(《.*?》|.*?{fact.unit}(?=[,，。]|以上|上述|$))"), context)
        assert told == ([first_answer(qa)] if first_answer(qa) else []), (context, qa["question"])


def test_cjrc_answers_of_one_kind_score_low() -> None:
    assert score("cjrc", lambda example: example.answers[0].text)["f1"] > 97
    for text in SPECIAL:
        assert score("cjrc", lambda example, text=text: text)["f1"] < 25
