"""Damaged files of answers with several spans or evidence: a report adds up, or one line says why there is none."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from preprocess.base.errors import DataError
from preprocess.joined import JoinedAnswer
from preprocess.tokenizers.wordpiece import WordPieceTokenizer
from tasks.core.discovery import get_task
from tests.support.damaged_files import LAYOUTS, TEXTS, damaged_file, deeper

N_FILES = 600


def _cail2021(draw: random.Random) -> Any:
    document = LAYOUTS["cjrc"](draw)
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                if draw.random() < 0.7:
                    qa["answers"] = [qa["answers"][: draw.randrange(4)], *qa["answers"][:1]]
    return document


def _cail2020(draw: random.Random) -> Any:
    questions = []
    for number in range(draw.randint(1, 4)):
        sentences = draw.sample(TEXTS, draw.randint(1, 3))
        answer = draw.choice(["越南", "YES", "unknown", sentences[0][:3]])
        facts = [[sentences[0], draw.randrange(3)] for _ in range(draw.randrange(3))]
        context = [[sentences[0], sentences]]
        one = {"_id": number, "question": "谁？", "context": context, "answer": answer, "supporting_facts": facts}
        questions.append(one)
    return questions


def _expmrc_c3(draw: random.Random) -> Any:
    articles = []
    for number in range(draw.randint(1, 3)):
        n, text = draw.randint(1, 3), draw.choice(TEXTS) + draw.choice(TEXTS)
        articles.append({
            "id": f"m{number}", "article": text, "questions": ["谁？"] * n,
            "options": [["枢机", "水里", "借款"] for _ in range(n)],
            "answers": [draw.choice("ABC") for _ in range(n)],
            "evidences": [[text[:5]] for _ in range(n)],
        })  # fmt: skip
    return {"version": "expmrc-c3-dev", "data": articles}


def _expmrc_cmrc2018(draw: random.Random) -> Any:
    document = LAYOUTS["cmrc"](draw)
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                qa["evidences"] = [paragraph["context"][: draw.randint(1, 20)]]
    return document


# --- counting by hand ---


def _document(content: bytes) -> Any:
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.split("\n") if line.strip()]


def _items(document: Any, key: str) -> list[Any]:
    if isinstance(document, dict):
        inner = [document] if key in document else document["data"]
        return inner if isinstance(inner, list) else [inner]
    return document if isinstance(document, list) else [document]


def _count_squad(document: Any) -> int:
    count = 0
    for article in _items(document, "paragraphs"):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        for paragraph in paragraphs if isinstance(paragraphs, list) else []:
            qas = paragraph.get("qas") if isinstance(paragraph, dict) else None
            count += len(qas) if isinstance(qas, list) else 0
    return count


def _count_race(document: Any) -> int:
    lists = [item.get("questions") for item in _items(document, "article") if isinstance(item, dict)]
    return sum(len(questions) for questions in lists if isinstance(questions, list))


MADE = {
    "cail2021": (_cail2021, _count_squad),
    "cail2020": (_cail2020, lambda document: len(_items(document, "_id"))),
    "expmrc_c3": (_expmrc_c3, _count_race),
    "expmrc_cmrc2018": (_expmrc_cmrc2018, _count_squad),
}


@pytest.mark.parametrize("name", list(MADE))
def test_no_damaged_file_breaks_a_reader_or_loses_a_question(name: str, tmp_path: Path) -> None:
    task, path, ends = get_task(name), tmp_path / "data.json", Counter[str]()
    make, count = MADE[name]
    characters = sorted({c for text in TEXTS for c in text if not c.isspace()} | set("谁？"))
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters])
    n_several = 0
    for seed in range(N_FILES):
        kind, content = damaged_file(seed, {name: make})
        if kind == "huge":
            continue
        path.write_bytes(content)
        try:
            examples, report = task.read(path)
        except DataError as error:
            assert "\n" not in str(error) and str(path) in str(error) and len(str(error)) < 3000, seed
            ends["refused"] += 1
            continue
        with deeper():
            n_questions = count(_document(content))
        assert report.n_questions == n_questions, (seed, kind)
        assert report.n_kept == len(examples) == n_questions - sum(map(len, report.dropped.values())), (seed, kind)
        assert report.sha256 == hashlib.sha256(content).hexdigest()
        json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False).encode()
        assert all(line.isprintable() and len(line) < 3000 for line in report.lines(limit=None)), (seed, kind)
        assert len({example.id for example in examples}) == len(examples)
        for example in examples:
            texts = (example.id, example.question, example.context, *example.extra.values(), *example.options)
            "".join((*texts, *(answer.text for answer in example.answers))).encode()
            joined = [answer for answer in example.answers if isinstance(answer, JoinedAnswer)]
            n_several += len(joined)
            for answer in (*example.answers, *(part for one in joined for part in one.parts)):
                assert not answer.located or example.context[answer.char_start : answer.char_end] == answer.text
            spans = [(one.char_start, one.char_end) for one in example.sentences]
            assert not spans or [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
        labelled = [example for example in examples if example.labelled]
        with contextlib.suppress(DataError):  # of a file that lacks what the metric needs
            task.scorer(labelled)({example.id: "甲" for example in labelled})
        targets = [next(iter(task.targets(example)), None) for example in examples]
        features = task.problem.encode(examples, targets, tokenizer, max_seq_length=48, max_query_length=12)
        assert set(features.example_index.tolist()) == set(range(len(examples))), (seed, kind)
        ends["part used" if report.lost else "used"] += 1
    # Damage that is always refused, or never noticed, would test nothing.
    assert ends.total() >= 500 and all(ends[end] > N_FILES / 60 for end in ("used", "part used", "refused")), ends
    assert n_several > 100 if name == "cail2021" else n_several == 0
