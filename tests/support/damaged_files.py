"""Data files of every layout, damaged in every way, the same for the same seed."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

#: One file in 500 gets a string of ten megabytes (slow), one in 50 is nested almost too deeply for the parser.
_EVERY_HUGE, _EVERY_DEEP = 500, 50
TEXTS = [
    "范廷颂是越南罗马天主教枢机。",
    "𫚭在水里，𫚭在山上。",
    "徐x7于２０１８年4月借款1,000.50元&times;",
    "a b\tc\n",
]
_WEIRD: list[Any] = [
    None, True, False, 0, -1, 7, 3.5, -0.0, 1e308, 10**40, -(10**40), 10**4000, float("nan"), float("inf"), "", " ",
    "\ud800", "甲\udfff", "\x00", "\u2028", "\r\n", "\x1b[2J", "[CLS]", "q0", "YES", "NO", "YES ", [], {}, [[]], [{}],
    [None], {"": ""}, {"text": "甲"}, {"\ud800": 1}, ["\ud800"], "ﷺ" * 9, "e\u0301" * 5, "0", "-1", "1.0",
]  # fmt: skip
_KEYS = [
    "id", "question", "answers", "text", "answer_start", "context", "qas", "paragraphs", "data", "is_impossible",
    "domain", "query_id", "query_text", "context_text", "context_id", "title", "caseid", "casename",
    "plausible_answers", "version",
]  # fmt: skip


# --- whole files ---


def _squad_style(rng: random.Random, n_paragraphs: int, n_answers: int, **of_question: Any) -> dict[str, Any]:
    data = []
    for a in range(rng.randint(1, 2)):
        paragraphs = []
        for p in range(rng.randint(1, n_paragraphs)):
            context = rng.choice(TEXTS) + rng.choice(TEXTS)
            qas = []
            for q in range(rng.randint(1, 3)):
                start = rng.randrange(len(context) - 2)
                answer = {"text": context[start : start + 2], "answer_start": start}
                answers = [dict(answer) for _ in range(n_answers)]
                qas.append({"id": f"{a}-{p}-{q}", "question": "谁？", "answers": answers, **of_question})
            paragraphs.append({"context": context, "id": f"{a}-{p}", "qas": qas})
        data.append({"title": "题", "id": str(a), "paragraphs": paragraphs})
    return {"version": "v1.0", "data": data}


def _original(rng: random.Random) -> list[Any]:
    qas = [{"query_id": f"Q{i}", "query_text": "谁？", "answers": ["水里", 4.9, "越南"]} for i in range(3)]
    return [
        {"context_id": f"C{i}", "context_text": rng.choice(TEXTS), "title": "", "qas": copy.deepcopy(qas)}
        for i in range(1)
    ]


def _cjrc(rng: random.Random) -> dict[str, Any]:
    document = _squad_style(rng, 1, 3, is_impossible="false")
    special = [
        {"text": "YES", "answer_start": -1},
        {"text": "NO", "answer_start": -1},
        {"text": "", "answer_start": -1},
    ]
    for article in document["data"]:
        article.update(caseid=article.pop("id"), domain=rng.choice(["civil", "criminal"]))
        for paragraph in article["paragraphs"]:
            paragraph["casename"] = "借贷纠纷"
            for qa in paragraph["qas"]:
                if rng.random() < 0.5:
                    qa["answers"] = [dict(rng.choice(special)) for _ in range(3)] if rng.random() < 0.7 else []
    return document


def _squad_v2(rng: random.Random) -> dict[str, Any]:
    document = _squad_style(rng, 2, 1, is_impossible=False)
    qa = document["data"][0]["paragraphs"][0]["qas"][0]
    qa.update(plausible_answers=qa["answers"], answers=[], is_impossible=True)
    return document


def _rows(rng: random.Random) -> list[Any]:
    """Return one question per row, answers as the columns that `datasets` writes."""
    rows = []
    for i in range(rng.randint(1, 4)):
        context = rng.choice(TEXTS) + rng.choice(TEXTS)
        start = rng.randrange(len(context) - 2)
        answers = {"text": [context[start : start + 2]], "answer_start": [start]}
        rows.append({"id": f"R{i}", "title": "题", "context": context, "question": "谁？", "answers": answers})
    return rows


LAYOUTS: dict[str, Callable[[random.Random], Any]] = {
    "cmrc": lambda rng: _squad_style(rng, 1, 3),
    "original": _original,
    "drcd": lambda rng: _squad_style(rng, 3, 2),
    "cjrc": _cjrc,
    "squad_v2": _squad_v2,
    "rows": _rows,
}


# --- damage to the values ---


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(items):
        yield value, key
        yield from _places(child)


def _pick(rng: random.Random, document: Any, *keys: str) -> tuple[Any, Any]:
    places = [place for place in _places(document) if not keys or place[1] in keys]
    return rng.choice(places) if places else ([document], 0)


def _replace(rng: random.Random, document: Any) -> None:
    container, key = _pick(rng, document)
    container[key] = copy.deepcopy(rng.choice(_WEIRD))


def _delete(rng: random.Random, document: Any) -> None:
    container, key = _pick(rng, document)
    del container[key]


def _rename(rng: random.Random, document: Any) -> None:
    container, key = _pick(rng, document)
    if isinstance(container, dict):
        container[rng.choice(_KEYS)] = container.pop(key)


def _swap(rng: random.Random, document: Any) -> None:
    (one, a), (two, b) = _pick(rng, document), _pick(rng, document)
    one[a], two[b] = copy.deepcopy(two[b]), copy.deepcopy(one[a])


def _repeat(rng: random.Random, document: Any) -> None:
    lists = [c[k] for c, k in _places(document) if isinstance(c[k], list) and c[k]]
    if lists:
        chosen = rng.choice(lists)
        chosen.insert(rng.randrange(len(chosen) + 1), copy.deepcopy(rng.choice(chosen)))


def _wrap(rng: random.Random, document: Any) -> None:
    container, key = _pick(rng, document)
    container[key] = rng.choice([[container[key]], {"data": container[key]}, {str(key): container[key]}])


def _offset(rng: random.Random, document: Any) -> None:
    container, key = _pick(rng, document, "answer_start")
    old = container[key] if isinstance(container[key], int) and abs(container[key]) < 1000 else 0
    container[key] = rng.choice([old + 1, old - 1, old + 0.5, float(old), str(old), -5, 10**6, 10**4000, 1e300, None])


def _text(rng: random.Random, document: Any) -> None:
    container, key = _pick(
        rng, document, "context", "context_text", "question", "query_text", "text", "id", "query_id"
    )
    extra = rng.choice(["\ud83d", "\x00", "𫚭", " ", "\u3000", "\u200b", "\n", "İ", "[SEP]", "ﬁ", "\u0301", "\ufffe"])
    if isinstance(container[key], str):
        at = rng.randrange(len(container[key]) + 1)
        container[key] = container[key][:at] + extra + container[key][at:]


def _huge(rng: random.Random, document: Any) -> None:
    container, key = _pick(
        rng, document, "context", "context_text", "question", "query_text", "text", "id", "query_id"
    )
    container[key] = rng.choice(["a", "\x1b", "é ", "\ud800"]) * 10_000_000


def _deep(rng: random.Random, document: Any) -> None:
    container, key = _pick(rng, document, *rng.sample(_KEYS, 3))
    value: Any = 1
    limit = sys.getrecursionlimit()
    # The parser gives up near this limit; what it just takes must not be too much for the rest.
    for _ in range(rng.choice([50, *range(300, limit, 8), *range(limit - 60, limit)])):
        value = [value] if rng.random() < 0.9 else {"": value}
    container[key] = value


_DAMAGE = {f.__name__[1:]: f for f in (_replace, _delete, _rename, _swap, _repeat, _wrap, _offset, _text)}


# --- damage to the bytes ---


def _truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def _flip(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _insert(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    tokens = [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b"9" * 5000,
        b",",
        b"]",
        b'"',
        b"{",
        b"\\",
        b"\\ud800",
        b"\xff",
    ]
    return content[:at] + rng.choice(tokens) + content[at:]


def _repeat_key(rng: random.Random, content: bytes) -> bytes:
    key = rng.choice([b"qas", b"paragraphs", b"answers", b"data", b"context", b"id", b"question", b"title"])
    other = rng.choice([b"[]", b"null", b'"x"', b"[1]", b"{}"])
    return content.replace(b'"%s":' % key, b'"%s": %s, "%s":' % (key, other, key), 1)


def _recode(rng: random.Random, content: bytes) -> bytes:
    text = "\n".join(json.dumps(json.loads(line), ensure_ascii=False) for line in content.splitlines())
    encoding = rng.choice(["utf-8-sig", "utf-16", "utf-32", "gb18030", "big5", "utf-7"])
    return text.encode(encoding, "replace")


def _other_file(rng: random.Random, content: bytes) -> bytes:
    return rng.choice(
        [b"", b" \n", b"\xef\xbb\xbf", b"null", b"[" * 5000, content + content, content + b"\n\x00", b"\x1f\x8b\x08"]
    )


_BYTE_DAMAGE = {
    f.__name__[1:]: f for f in (_truncate, _flip, _insert, _repeat_key, _recode, _other_file)
}  # fmt: skip


def damaged_file(
    seed: int, layouts: Mapping[str, Callable[[random.Random], Any]] = MappingProxyType(LAYOUTS)
) -> tuple[str, bytes]:
    """Return the kind of damage and the file."""
    rng = random.Random(seed)
    document = layouts[rng.choice(list(layouts))](rng)
    if seed % _EVERY_HUGE == 7:
        kind, n_times, change = "huge", 1, _huge
    elif seed % _EVERY_DEEP == 3:
        kind, n_times, change = "deep", 1, _deep
    else:
        kind, n_times = rng.choice([*_DAMAGE, *_BYTE_DAMAGE]), rng.randint(1, 4)
        change = _DAMAGE.get(kind, lambda *_: None)
    for _ in range(n_times):
        change(rng, document)
    # Written without recursion limits in the way; surrogates only survive as escapes.
    lines = isinstance(document, list) and len(document) > 1 and rng.random() < 0.5
    content = ("\n".join(map(_dump, document)) if lines else _dump(document)).encode()
    return kind, _BYTE_DAMAGE[kind](rng, content) if kind in _BYTE_DAMAGE else content


def _dump(document: Any) -> str:
    with deeper():
        return json.dumps(document)


@contextlib.contextmanager
def deeper() -> Iterator[None]:
    """Let the test itself work on what is nested as deeply as a reader just takes."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * limit)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
