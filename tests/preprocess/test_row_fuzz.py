"""Damaged files of rows: a reader returns a report that adds up, or says in one line why the file is of no use."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from preprocess.base.errors import DataError
from preprocess.readers.parts import RowParts
from preprocess.tokenizers.wordpiece import WordPieceTokenizer
from tasks.core.discovery import get_task, task_names

N_FILES = 600
_TASKS = [name for name in task_names() if isinstance(get_task(name).parts, RowParts)]
_TEXTS = [
    "房间很干净。",
    "徐x7于２０１８年4月",
    "a b c",
    "𫚭在水里",
    "",
    " ",
    "\x08\x00",
    "\u2028甲\x85",
    '"甲"',
    "\ufeff乙",
]
_LABELS = [
    "0", "1", "neutral", "entailment", "9", "contradictory", "", " 1 ", "１", "1.0", "nan", "O", "B-PER", "I-",
    "label",
]  # fmt: skip


def _row(draw: random.Random, order: tuple[str, ...], task: str) -> str:
    if task == "msra_ner":
        separator = draw.choice(("\x02", "\x02", " "))
        text = draw.choice(_TEXTS)
        tags = draw.choices(["O", "B-PER", "I-PER", "I-LOC", "B-ORG"], k=max(1, len(text)))
        return separator.join(text) + "\t" + separator.join(tags)
    right = {"xnli": ["neutral", "entailment", "contradictory"]}.get(task, ["0", "1"])
    return "\t".join(draw.choice(right) if what == "label" else draw.choice(_TEXTS) for what in order)


def _damaged_row(draw: random.Random, row: str) -> str:
    cells = row.split("\t")
    place = draw.randrange(len(cells))
    kind = draw.randrange(7)
    if kind == 0:
        cells[place] = draw.choice(_LABELS)
    elif kind == 1:
        cells.insert(place, draw.choice(_TEXTS))
    elif kind == 2:
        del cells[place]
    elif kind == 3:
        cells[place] = draw.choice(_TEXTS)
    elif kind == 4:
        cells[place] = cells[place][: len(cells[place]) // 2]
    elif kind == 5:
        return draw.choice(("", "\t", "\t\t\t", " ", "\r"))
    else:
        cells[place] = cells[place].replace("\x02", draw.choice(("\x02\x02", "", " ")))
    return "\t".join(cells)


def _damaged_file(seed: int, task: str) -> bytes:
    draw = random.Random(seed)
    parts = get_task(task).parts
    assert isinstance(parts, RowParts)
    rows = [_row(draw, parts.columns.order, task) for _ in range(draw.randint(0, 6))]
    rows = [_damaged_row(draw, row) if draw.random() < 0.3 else row for row in rows]
    if draw.random() < 0.5:
        names = {"question": "text_a", "context": "text_b" if "question" in parts.columns.order else "text_a"}
        header = [names.get(what, what) for what in parts.columns.order]
        rows.insert(0, "\t".join(header[: draw.choice((1, 2, 3, 3))]))
    text = draw.choice(("\n", "\n", "\r\n")).join(rows) + draw.choice(("", "\n", "\n\n"))
    content = text.encode(draw.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")))
    if draw.random() < 0.1:
        content = gzip.compress(content)
    for _ in range(draw.choice((0, 0, 0, 1, 3)) if content else 0):
        place = draw.randrange(len(content) + 1)
        content = content[:place] + draw.choice((b"", b"\xff", b"\n", b"\t", b"\x00")) + content[place + 1 :]
    return content


def _n_rows(content: bytes) -> int:
    """Count by hand: all lines up to the last that is not blank, but a header."""
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    lines = text.rstrip(" \n\r\t\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u3000").split("\n")
    return len(lines)


@pytest.mark.parametrize("task_name", _TASKS)
def test_no_damaged_file_breaks_a_reader_or_loses_a_row(task_name: str, tmp_path: Path) -> None:
    task, path = get_task(task_name), tmp_path / "data.tsv"
    characters = sorted({c for text in _TEXTS for c in text if not c.isspace()})
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters])
    ends = Counter[str]()
    for seed in range(N_FILES):
        content = _damaged_file(seed, task_name)
        path.write_bytes(content)
        try:
            examples, report = task.read(path)
        except DataError as error:
            assert "\n" not in str(error) and str(path) in str(error) and len(str(error)) < 3000, seed
            ends["refused"] += 1
            continue
        n_lines = _n_rows(content)
        assert report.n_questions == n_lines - (report.layout == "rows with a header"), seed
        assert report.n_kept == len(examples) == report.n_questions - sum(map(len, report.dropped.values())), seed
        assert report.sha256 == hashlib.sha256(content).hexdigest()
        json.dumps(report.to_json(), allow_nan=False)
        for line in report.lines(limit=None):
            assert line.isprintable() and len(line) < 3000, seed
        assert len({example.id for example in examples}) == len(examples)
        for example in examples:
            for answer in example.answers:
                assert not answer.located or example.context[answer.char_start : answer.char_end] == answer.text
        targets = [next(iter(task.targets(example)) if example.labelled else iter(()), None) for example in examples]
        features = task.problem.encode(examples, targets, tokenizer, max_seq_length=48, max_query_length=12)
        assert set(features.example_index.tolist()) == set(range(len(examples))), seed
        divided = task.parts(content, path)
        assert len(divided.ties) == report.n_questions
        ends["part used" if report.lost else "used"] += 1
    # Damage that is always refused, or never noticed, would test nothing.
    assert all(ends[end] > N_FILES / 40 for end in ("used", "part used", "refused")), ends
