"""Damaged files of questions with options: a reader's report adds up, or one line says why a file is of no use."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from preprocess.base.errors import DataError
from preprocess.readers.blanks import CHID, CMRC2019, Layout
from preprocess.tokenizers.wordpiece import WordPieceTokenizer
from tasks.core.discovery import get_task
from tests.support.damaged_files import TEXTS, damaged_file

N_FILES = 600
_OPTIONS = ["枢机", "水里", "借款", "a b", "", "609"]


def _c3(draw: random.Random) -> list[Any]:
    documents = []
    for number in range(draw.randint(1, 3)):
        questions = []
        for _ in range(draw.randint(1, 3)):
            options = draw.sample(_OPTIONS, draw.randint(2, 4))
            questions.append({"question": "谁？", "choice": options, "answer": draw.choice(options)})
        lines = [f"男：{draw.choice(TEXTS)}", f"女：{draw.choice(TEXTS)}"][: draw.randint(1, 2)]
        documents.append([lines, questions, f"{number}-1"])
    return documents


def _cmrc2019(draw: random.Random) -> dict[str, Any]:
    passages = []
    for number in range(draw.randint(1, 3)):
        n = draw.randint(1, 3)
        text = draw.choice(TEXTS) + "".join(f"[BLANK{k}]{draw.choice(TEXTS)}" for k in range(1, n + 1))
        passages.append({
            "context_id": f"P{number}", "context": text, "choices": draw.sample(_OPTIONS, 4),
            "answers": [draw.randrange(4) for _ in range(n)],
        })  # fmt: skip
    return {"data": passages}


def _chid(draw: random.Random) -> list[Any]:
    blanks = iter(range(100))
    passages = []
    for number in range(draw.randint(1, 3)):
        texts = [f"{draw.choice(TEXTS)}#idiom{next(blanks):06}#。" for _ in range(draw.randint(1, 2))]
        passage = {"groupId": number, "content": texts, "candidates": draw.sample(_OPTIONS, 4)}
        found = re.findall(CHID.blank, "".join(texts))
        if draw.random() < 0.7:
            passage["answers"] = {f"#idiom{name}#": draw.randrange(4) for name in found}
        passages.append(passage)
    return passages


# --- counting by hand ---


def _document(content: bytes) -> Any:
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.split("\n") if line.strip()]


def _count_c3(document: Any) -> tuple[int, int]:
    """Return the number of questions, and of what is no document where one is expected."""
    if _is_document(document):
        document = [document]
    parts = []
    for part in document:
        together = isinstance(part, list) and not _is_document(part) and any(map(_is_document, part))
        parts += part if together else [part]
    documents = list(filter(_is_document, parts))
    return sum(len(document[1]) for document in documents), len(parts) - len(documents)


def _is_document(value: Any) -> bool:
    if not isinstance(value, list) or len(value) not in (2, 3) or not isinstance(value[1], list):
        return False
    return value[1] == [] or isinstance(value[1][0], dict)


def _count_blanks(document: Any, layout: Layout) -> tuple[int, int]:
    passages = document.get("data", [document]) if isinstance(document, dict) else document
    n_blanks = n_bad = 0
    for passage in passages:
        texts = passage.get(layout.text_key) if isinstance(passage, dict) else None
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            n_bad += 1
            continue
        written = [match[0] for text in texts for match in re.finditer(layout.blank, text)]
        answers = passage.get("answers")
        if isinstance(answers, list):
            answers = {f"[BLANK{k}]": None for k in range(1, len(answers) + 1)}
        n_blanks += len(written) + len([b for b in answers if b not in written] if isinstance(answers, dict) else [])
    return n_blanks, n_bad


_MADE = {"c3": _c3, "cmrc2019": _cmrc2019, "chid": _chid}
_COUNTED = {
    "c3": _count_c3,
    "cmrc2019": lambda document: _count_blanks(document, CMRC2019),
    "chid": lambda document: _count_blanks(document, CHID),
}


@pytest.mark.parametrize("name", list(_MADE))
def test_no_damaged_file_breaks_a_reader_or_loses_a_question(name: str, tmp_path: Path) -> None:
    task, path, ends = get_task(name), tmp_path / "data.json", Counter[str]()
    characters = sorted({c for text in TEXTS for c in text if not c.isspace()})
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters])
    for seed in range(N_FILES):
        kind, content = damaged_file(seed, {name: _MADE[name]})
        if kind in ("huge", "deep"):
            continue
        content = gzip.compress(content) if seed % 10 == 1 else content
        path.write_bytes(content)
        try:
            examples, report = task.read(path)
        except DataError as error:
            assert "\n" not in str(error) and str(path) in str(error) and len(str(error)) < 3000, seed
            ends["refused"] += 1
            continue
        n_questions, n_bad = _COUNTED[name](_document(content))
        assert report.n_questions == n_questions, (seed, kind)
        assert report.n_kept == len(examples) == n_questions - sum(map(len, report.dropped.values())), (seed, kind)
        assert sum(problem.kind == "article_malformed" for problem in report.problems) == n_bad, (seed, kind)
        assert report.sha256 == hashlib.sha256(content).hexdigest()
        json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False).encode()
        assert all(line.isprintable() and len(line) < 3000 for line in report.lines(limit=None)), (seed, kind)
        assert len({example.id for example in examples}) == len(examples)
        for example in examples:
            "".join((example.id, example.question, example.context, example.group, *example.options)).encode()
            assert not example.labelled or example.answers[0].text in example.options
        if any(example.labelled for example in examples):
            task.scorer([example for example in examples if example.labelled])({})
        targets = [next(iter(task.targets(example)), None) for example in examples]
        features = task.problem.encode(examples, targets, tokenizer, max_seq_length=48, max_query_length=12)
        assert set(features.example_index.tolist()) == set(range(len(examples))), (seed, kind)
        ends["part used" if report.lost else "used"] += 1
    # Damage that is always refused, or never noticed, would test nothing.
    assert ends.total() >= 500 and all(ends[end] > N_FILES / 40 for end in ("used", "part used", "refused")), ends
