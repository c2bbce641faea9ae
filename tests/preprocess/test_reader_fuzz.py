"""Damaged data files: a reader returns a report that adds up, or says in one line why the file is of no use.

The suite reads `N_FILES` of them. More of them, and a table of how they ended by the kind of damage:
`PYTHONPATH=. python tests/preprocess/test_reader_fuzz.py 20000 [first seed]`.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from preprocess.base.errors import DataError
from preprocess.readers.mrc import read_examples
from preprocess.readers.report import DataReport
from preprocess.tokenizers.wordpiece import WordPieceTokenizer
from preprocess.types import Answer, Example
from tasks.core.discovery import get_task, task_names
from tasks.problems.span import SpanProblem

N_FILES = 2000
#: One file in 500 gets a string of ten megabytes (slow), one in 50 is nested almost too deeply for the parser.
_EVERY_HUGE, _EVERY_DEEP = 500, 50
_WINDOWS = {"max_seq_length": 48, "doc_stride": 16, "max_query_length": 12}
_TEXTS = [
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
            context = rng.choice(_TEXTS) + rng.choice(_TEXTS)
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
        {"context_id": f"C{i}", "context_text": rng.choice(_TEXTS), "title": "", "qas": copy.deepcopy(qas)}
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
        context = rng.choice(_TEXTS) + rng.choice(_TEXTS)
        start = rng.randrange(len(context) - 2)
        answers = {"text": [context[start : start + 2]], "answer_start": [start]}
        rows.append({"id": f"R{i}", "title": "题", "context": context, "question": "谁？", "answers": answers})
    return rows


_LAYOUTS: dict[str, Callable[[random.Random], Any]] = {
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


def damaged_file(seed: int) -> tuple[str, bytes]:
    """Return the kind of damage and the file."""
    rng = random.Random(seed)
    document = _LAYOUTS[rng.choice(list(_LAYOUTS))](rng)
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
    with _deeper():
        return json.dumps(document)


@contextlib.contextmanager
def _deeper() -> Iterator[None]:
    """Let the test itself work on what is nested as deeply as a reader just takes."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * limit)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


# --- what must hold ---


def _count(document: Any) -> tuple[int, int]:
    """Count by hand: entries of "qas" lists, and what stands in the place of articles and paragraphs without one."""
    items = document.get("data") if isinstance(document, dict) else document
    items = items if isinstance(items, list) else [document]
    known = [layout for layout in map(_layout, items) if layout]
    if known[0] == "rows":
        return len(items), 0
    if known[0] == "squad":
        lists = [i.get("paragraphs") if isinstance(i, dict) else None for i in items]
        n_bad = sum(not isinstance(paragraphs, list) for paragraphs in lists)
        places = [p for paragraphs in lists if isinstance(paragraphs, list) for p in paragraphs]
    else:
        n_bad, places = 0, items
    qas = [p.get("qas") if isinstance(p, dict) else None for p in places]
    n_bad += sum(not isinstance(entries, list) for entries in qas)
    return sum(len(entries) for entries in qas if isinstance(entries, list)), n_bad


def _layout(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    if "paragraphs" in item:
        return "squad"
    if item.keys() & {"context_text", "context_id"}:
        return "original"
    return "rows" if item.keys() >= {"context", "question"} else ""


def _document(content: bytes) -> Any:
    """Parse a file that a reader took, by other means than the reader: whole, else line by line."""
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    try:
        return json.loads(text, object_pairs_hook=_merged)
    except json.JSONDecodeError:
        return [json.loads(line, object_pairs_hook=_merged) for line in text.split("\n") if line.strip(" \t\r")]


def _merged(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of which no value is lost: lists under the same key are joined."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        both = isinstance(value, list) and isinstance(made.get(key), list)
        made[key] = made[key] + value if both and made[key] != value else value
    return made


def _check_report(content: bytes, examples: Sequence[Example], report: DataReport) -> None:
    with _deeper():
        n_entries, n_bad = _count(_document(content))
    n_dropped = sum(map(len, report.dropped.values()))
    assert report.n_questions == n_entries
    assert report.n_kept == len(examples) == n_entries - n_dropped
    kinds = Counter(problem.kind for problem in report.problems)
    assert kinds["article_malformed"] + kinds["paragraph_malformed"] == n_bad
    assert len({example.id for example in examples}) == len(examples)
    # Printing and writing it must work too: one line per problem, whatever an id holds.
    json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False).encode()
    for line in report.lines(limit=None):
        line.encode()
        assert "\n" not in line and "\x1b" not in line and len(line) < 3000


def _check_example(example: Example) -> None:
    texts = (example.id, example.question, example.context, example.group, *example.extra.values())
    for text in (*texts, *(answer.text for answer in example.answers)):
        assert isinstance(text, str)
        text.encode()
    for answer in example.answers:
        if answer.located:
            assert example.context[answer.char_start : answer.char_end] == answer.text
            assert answer.char_end - answer.char_start == len(answer.text) > 0


Read = Callable[[Path], tuple[list[Example], DataReport]]


def outcome(path: Path, content: bytes, tokenizer: WordPieceTokenizer, task_name: str | None) -> str:
    """Read one file (by `read_examples`, or by a task) and encode it; return "used", "part used" or "refused"."""
    task = get_task(task_name) if task_name else None
    path.write_bytes(content)
    try:
        examples, report = task.read(path) if task else read_examples(path)
    except DataError as error:
        assert "\n" not in str(error) and str(path) in str(error) and len(str(error)) < 3000
        return "refused"
    assert report.sha256 == hashlib.sha256(content).hexdigest()
    _check_report(content, examples, report)
    targets: list[Answer | None] = []
    for example in examples:
        _check_example(example)
        found = task.targets(example) if task else example.answers
        targets.append(next((a for a in found if a.located or a.kind != "span"), None))
    features = (task.problem if task else SpanProblem()).encode(
        examples,
        targets,
        tokenizer,
        transform=task.transform if task else None,
        **(_WINDOWS if len(content) < 1_000_000 else {}),
    )
    assert len(features) >= len(examples)
    return "part used" if report.lost else "used"


def _tokenizer() -> WordPieceTokenizer:
    characters = sorted({c for text in _TEXTS for c in text if not c.isspace()} | set("谁？abc"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    return WordPieceTokenizer(pieces)


def _tasks(path: Path) -> list[str]:
    """Return the tasks whose files have one of the layouts."""
    names = []
    for name in task_names():
        path.write_text(json.dumps(_LAYOUTS["cjrc"](random.Random(0))))
        try:
            get_task(name).read(path)
        except DataError:
            continue
        names.append(name)
    assert "cmrc2018" in names
    return names


def _run(first: int, n: int, directory: Path, stop: bool = True) -> Counter[tuple[str, str]]:
    tokenizer, counts, path = _tokenizer(), Counter[tuple[str, str]](), directory / "data.json"
    names = _tasks(path)
    for seed in range(first, first + n):
        kind, content = damaged_file(seed)
        # Huge files through one reader only; else read_examples and one task after the other.
        readers = [None] if kind == "huge" else [None, names[seed % len(names)]]
        for name in readers:
            try:
                counts[kind, outcome(path, content, tokenizer, name)] += name is None
            except Exception as error:
                if stop:
                    raise AssertionError(f"seed {seed} ({kind}, task {name}): {error!r}") from error
                counts[kind, f"BUG {type(error).__name__}"] += 1
                where = traceback.extract_tb(error.__traceback__)[-1]
                print(f"seed {seed} ({kind}, task {name}): {repr(error)[:300]} at {where.filename}:{where.lineno}")
    return counts


@pytest.mark.parametrize("part", range(4))
def test_no_damaged_file_breaks_a_reader_or_loses_a_question(tmp_path: Path, part: int) -> None:
    counts = _run(part * N_FILES // 4, N_FILES // 4, tmp_path)
    assert counts.total() == N_FILES // 4
    ends = Counter(end for (_, end), n in counts.items() for _ in range(n))
    # Damage that is always refused, or never noticed, would test nothing.
    assert all(ends[end] > N_FILES / 40 for end in ("used", "part used", "refused")), ends


def _write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_a_repeated_key_is_refused_because_its_first_value_would_be_lost(tmp_path: Path) -> None:
    paragraph = '{"context": "甲", "qas": [{"id": "1", "question": "?"}], "qas": [{"id": "2", "question": "?"}]}'
    file = _write(tmp_path / "a.json", f'{{"data": [{{"paragraphs": [{paragraph}]}}]}}')
    with pytest.raises(DataError, match="the key 'qas' twice, with a list of 1 and with a list of 1; give each key"):
        read_examples(file)
    # The same value twice loses nothing.
    article = '"title": "t", "title": "t", "paragraphs": [{"context": "甲", "qas": [{"id": 1, "question": ""}]}]'
    same = f'{{"data": [{{{article}}}]}}'
    assert len(read_examples(_write(file, same))[0]) == 1


def test_extra_keys_and_groups_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    article = {"id": {}, "caseid": 7, "domain": [["civil"]]}
    paragraph = {"context": "甲", "qas": [{"id": "q", "question": "?"}]}
    file = _write(tmp_path / "a.json", json.dumps({"data": [{**article, "paragraphs": [paragraph]}]}))
    (example,), report = read_examples(file)
    assert (example.group, example.extra) == ("7", {})
    assert report.notes == {"unlabelled": ["q"], "extra_malformed": ["q"]} and not report.lost


def test_a_problem_is_one_short_printable_line_whatever_the_file_holds(tmp_path: Path) -> None:
    qas = [{"id": "a\n\x1b[2J", "question": 1}, {"id": "b" * 10**6, "question": 1}, {"id": "c", "question": "?"}]
    file = _write(tmp_path / "a.json", json.dumps({"data": [{"paragraphs": [{"context": "甲", "qas": qas}]}]}))
    first, second = map(str, read_examples(file)[1].problems)
    assert first.startswith("a\\n\\x1b[2J: question_not_text: expected a string") and len(second) < 400


def test_the_count_by_hand_sees_what_a_reader_would_lose() -> None:
    document = {"data": [{"paragraphs": [{"context": "", "qas": [{}, None]}, {"qas": 1}]}, 3]}
    assert _count(document) == (2, 2)
    assert _count([{"context_text": "", "qas": [1]}, {"paragraphs": []}]) == (1, 1)


def main(n: int, first: int = 0) -> int:
    """Read `n` damaged files and print how they ended."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        counts = _run(first, n, Path(directory), stop=False)
    ends = sorted({end for _, end in counts})
    print(f"{'damage':<12}" + "".join(f"{end:>20}" for end in ends))
    for kind in sorted({kind for kind, _ in counts}):
        print(f"{kind:<12}" + "".join(f"{counts[kind, end]:>20}" for end in ends))
    print(f"{n} files in {time.perf_counter() - started:.0f} s")
    return int(any(end.startswith("BUG") for end in ends))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
