"""Damaged data files: a reader returns a report that adds up, or says in one line why the file is of no use.

The suite reads `N_FILES` of them. More of them, and a table of how they ended by the kind of damage:
`PYTHONPATH=. python tests/preprocess/test_reader_fuzz.py 20000 [first seed]`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from preprocess.base.errors import DataError
from preprocess.readers.mrc import read_examples
from preprocess.readers.report import DataReport
from preprocess.tokenizers.wordpiece import WordPieceTokenizer
from preprocess.types import Example
from tasks.core.discovery import get_task, task_names
from tasks.problems.span import SpanProblem
from tests.support.damaged_files import LAYOUTS, TEXTS, damaged_file, deeper

N_FILES = 2000
_WINDOWS = {"max_seq_length": 48, "doc_stride": 16, "max_query_length": 12}


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
    """Parse a file that a reader took, by other means than the reader: the fewest lines that make a value, each time.

    A value may take several lines: white space between tokens may be a line break.
    """
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    values, begun = [], ""
    for line in text.split("\n"):
        begun = f"{begun}\n{line}"
        if begun.strip(" \t\r\n"):
            with contextlib.suppress(json.JSONDecodeError):
                values.append(json.loads(begun, object_pairs_hook=_merged))
                begun = ""
    assert not begun.strip(" \t\r\n"), "the file ends within a value"
    return values[0] if len(values) == 1 else values


def _merged(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of which no value is lost: lists under the same key are joined."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        both = isinstance(value, list) and isinstance(made.get(key), list)
        made[key] = made[key] + value if both and made[key] != value else value
    return made


def _check_report(content: bytes, examples: Sequence[Example], report: DataReport) -> None:
    with deeper():
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
    targets: list[Any] = []
    for example in examples:
        _check_example(example)
        usable = (answer for answer in example.answers if answer.located or answer.kind != "span")
        targets.append(next(iter(task.targets(example) if task else usable), None))
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
    characters = sorted({c for text in TEXTS for c in text if not c.isspace()} | set("谁？abc"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    return WordPieceTokenizer(pieces)


def _tasks(path: Path) -> list[str]:
    """Return the tasks whose files have one of the layouts."""
    names = []
    for name in task_names():
        path.write_text(json.dumps(LAYOUTS["cjrc"](random.Random(0))))
        with contextlib.suppress(DataError):
            # To a task of rows, JSON is a row like any other.
            if get_task(name).read(path)[1].layout == "SQuAD style":
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
