"""A small file in the layout of every task, for what holds of all of them."""

from __future__ import annotations

import json
from pathlib import Path

from preprocess.base.errors import DataError
from tasks.core.task import Task

#: Twelve texts, so that there is something to divide; 小 is in every other one.
TEXTS = [f"{'小大'[i % 2]}猫住在北京第{'一二三四五六七八九十甲乙'[i]}街。" for i in range(12)]


def _squad() -> str:
    articles = []
    for i, text in enumerate(TEXTS):
        answers = [{"text": "北京", "answer_start": text.index("北京")}]
        qas = [{"id": f"{i}_0", "question": "住在哪里？", "answers": answers, "is_impossible": "false"}]
        articles.append({"caseid": f"{i}", "domain": "civil", "paragraphs": [{"context": text, "qas": qas}]})
    return json.dumps({"version": "v1.0", "data": articles}, ensure_ascii=False)


def _rows(header: str, *rows: str) -> str:
    return "\n".join([header, *rows, ""])


def _tagged() -> str:
    tags = ["B-LOC" if c == "北" else "I-LOC" if c == "京" else "O" for c in TEXTS[0]]
    return _rows("text_a\tlabel", *("\x02".join(text) + "\t" + "\x02".join(tags) for text in TEXTS))


def _c3() -> str:
    questions = [{"question": "住在哪里?", "choice": ["上海", "北京"], "answer": "北京"}]
    return json.dumps([[[text], questions, f"{i}-1"] for i, text in enumerate(TEXTS)], ensure_ascii=False)


def _cmrc2019() -> str:
    passages = [
        {"context_id": f"P{i}", "context": f"{text}[BLANK1]。", "choices": ["甲", "乙"], "answers": [i % 2]}
        for i, text in enumerate(TEXTS)
    ]
    return json.dumps({"data": passages}, ensure_ascii=False)


def _chid() -> str:
    passages = [
        {
            "groupId": i,
            "content": [f"{text}#idiom{i:06}#。"],
            "candidates": ["一心一意", "三心二意"],
            "answers": {f"#idiom{i:06}#": i % 2},
        }
        for i, text in enumerate(TEXTS)
    ]
    return _rows(*(json.dumps(passage, ensure_ascii=False) for passage in passages))


#: name of a layout -> the content of a file.
SAMPLES = {
    "SQuAD style": _squad(),
    "classes of texts": _rows("label\ttext_a", *(f"{i % 2}\t{text}" for i, text in enumerate(TEXTS))),
    "classes of pairs": _rows(
        "text_a\ttext_b\tlabel", *(f"{text}\t这是第{i}句。\t{i % 2}" for i, text in enumerate(TEXTS))
    ),
    "inference": _rows(
        "text_a\ttext_b\tlabel",
        *(f"{t}\t这是第{i}句。\t{('entailment', 'neutral')[i % 2]}" for i, t in enumerate(TEXTS)),
    ),
    "tags": _tagged(),
    "C3": _c3(),
    "CMRC2019": _cmrc2019(),
    "CHID": _chid(),
}


def sample_of(task: Task, directory: Path) -> Path:
    """Write the sample that a task reads without losing a question."""
    for number, content in enumerate(SAMPLES.values()):
        path = directory / f"sample{number}"
        path.write_text(content, encoding="utf-8")
        try:
            _, report = task.read(path)
        except DataError:
            continue
        if not report.lost and not report.notes:
            return path
    raise AssertionError(f"no sample has the layout of {task.name}; add one")
