"""Readers: both layouts, where an answer stands, and a counted reason for every question."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from preprocess.base.errors import DataError
from preprocess.readers.location import locate
from preprocess.readers.mrc import read_examples
from preprocess.text.offsets import nearest_occurrence, utf16_to_codepoint
from preprocess.types import Answer

ASTRAL = "𫚭在水里，𫚭在山上。"  # code points 0 𫚭 1 在 2 水 3 里 4 ， 5 𫚭 6 在 7 山 8 上 9 。


def write(path: Path, document: Any) -> Path:
    file = path / "data.json"
    file.write_text(json.dumps(document, ensure_ascii=False), "utf-8")
    return file


def squad(*qas: Any, context: Any = "甲乙丙甲乙") -> dict[str, Any]:
    return {"version": "v1.0", "data": [{"id": "A", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


def qa(id: Any = "q", question: Any = "问？", answers: Any = ()) -> dict[str, Any]:
    return {"id": id, "question": question, "answers": list(answers) if isinstance(answers, tuple) else answers}


def answer(text: Any, *start: Any) -> dict[str, Any]:
    return {"text": text, **({"answer_start": start[0]} if start else {})}


@pytest.mark.parametrize(
    ("units", "points"), [(0, 0), (1, None), (2, 1), (6, 5), (7, None), (8, 6), (12, 10), (13, None), (-1, None)]
)
def test_utf16_offsets_count_astral_characters_twice(units: int, points: int | None) -> None:
    assert utf16_to_codepoint(ASTRAL, units) == points


@pytest.mark.parametrize(("near", "place"), [(0, 0), (1, 0), (2, 3), (3, 3), (99, 3)])
def test_the_nearest_occurrence_wins_and_the_earlier_of_two(near: int, place: int) -> None:
    assert nearest_occurrence("甲乙丙甲乙", "甲乙", near) == place
    assert nearest_occurrence("甲丙甲", "甲", 1) == 0


@pytest.mark.parametrize(
    ("text", "start", "unit", "expected"),
    [
        ("在山", 8, "utf16", (6, None)),
        ("在山", 6, "codepoint", (6, None)),
        ("在山", 8, "codepoint", (6, "answer_start_utf16")),
        ("在山", 6, "utf16", (6, "answer_start_codepoint")),
        ("在", 5, "codepoint", (6, "relocated")),
        ("在", -1, "utf16", (1, "searched")),
        ("在", None, "utf16", (1, "searched")),
        ("火", 3, "utf16", (-1, "answer_not_in_context")),
        ("", 3, "utf16", (-1, "answer_empty")),
        ("山", 10**30, "utf16", (7, "relocated")),
    ],
)
def test_an_answer_is_located_by_one_rule(
    text: str, start: int | None, unit: Any, expected: tuple[int, str | None]
) -> None:
    assert locate(ASTRAL, text, start, unit) == expected


def test_squad_style_gives_the_published_text_and_its_place(tmp_path: Path) -> None:
    question = qa("q1", " 问 ", (answer("甲乙", 3), answer(" 丙", 1)))
    document = squad({**question, "is_impossible": False})
    document["data"][0]["domain"] = "civil"
    examples, report = read_examples(write(tmp_path, document))
    (example,) = examples
    assert example.question == " 问 " and example.group == "A" and example.context == "甲乙丙甲乙"
    assert example.answers == (Answer("甲乙", 3, 5), Answer(" 丙"))
    assert example.extra == {"domain": "civil", "is_impossible": "false"}
    assert report.notes == {
        "question_unstripped": ["q1"], "answer_unstripped": ["q1"], "answer_not_in_context": ["q1"]
    }  # fmt: skip
    assert (report.n_articles, report.n_contexts, report.n_questions, report.n_kept) == (1, 1, 1, 1)


def test_original_layout_takes_numbers_as_answers_and_searches_them(tmp_path: Path) -> None:
    document = [
        {
            "context_id": "C1",
            "context_text": "高4.9米，4.9米。",
            "title": "",
            "qas": [{"query_id": "q1", "query_text": "", "answers": [4.9, "米", 39613.0, 20]}],
        }
    ]
    examples, report = read_examples(write(tmp_path, document))
    texts = [(a.text, a.char_start, a.char_end) for a in examples[0].answers]
    assert texts == [("4.9", 1, 4), ("米", 4, 5), ("39613.0", -1, -1), ("20", -1, -1)]
    assert examples[0].group == "C1"
    assert {kind: len(ids) for kind, ids in report.notes.items()} == {
        "question_empty": 1, "answer_not_string": 3, "searched": 2, "answer_not_in_context": 2
    }  # fmt: skip


def test_every_malformed_question_is_counted_and_none_stops_the_rest(tmp_path: Path) -> None:
    document = squad(
        qa("good", answers=(answer("甲", 0),)),
        qa("good", answers=(answer("乙", 9),)),
        {"question": "无号"},
        qa("no_question", None),
        qa("answers", answers={"text": "甲"}),
        qa("answer", answers=(answer(None, 0),)),
        qa("surrogate", "\ud800"),
        "no object",
        qa("bare", answers=["乙"]),
        {"id": "unlabelled", "question": "问？"},
    )
    document["data"] += [
        "no article",
        {"paragraphs": [{"context": 7, "qas": [qa("c1"), qa("c2")]}, {"context": "甲"}]},
    ]
    file = tmp_path / "data.json"
    file.write_text(json.dumps(document), "utf-8")
    examples, report = read_examples(file)
    assert [example.id for example in examples] == ["good", "bare", "unlabelled"]
    assert report.dropped == {
        "id_duplicate": ["good"],
        "id_missing": ["article 0 paragraph 0.qas[2]"],
        "question_not_text": ["no_question"],
        "answers_malformed": ["answers", "answer"],
        "lone_surrogate": ["surrogate"],
        "question_malformed": ["article 0 paragraph 0.qas[7]"],
        "context_not_text": ["c1", "c2"],
    }
    assert report.n_kept + sum(map(len, report.dropped.values())) == report.n_questions == 12
    # A dropped duplicate leaves no note behind.
    assert report.notes == {"searched": ["bare"], "unlabelled": ["unlabelled"]}
    kinds = [problem.kind for problem in report.problems]
    assert kinds.count("article_malformed") == 1 and kinds.count("paragraph_malformed") == 1
    assert json.loads(json.dumps(report.to_json()))["dropped"]["answers_malformed"]["count"] == 2
    assert any("2 in 2 questions" in line for line in report.lines())


def test_a_moved_answer_is_said_in_words(tmp_path: Path) -> None:
    _, report = read_examples(write(tmp_path, squad(qa("q", answers=(answer("在山", 8),)), context=ASTRAL)))
    assert (
        str(report.problems[0]) == "q: answer_start_utf16: expected answer '在山', found '上。' at char 8; it is at 6"
    )


def test_gold_without_contexts_keeps_all_questions_under_one_note(tmp_path: Path) -> None:
    document = squad(qa("a", answers=(answer("甲", 11),)), qa("b", answers=(answer("乙", -1),)), context="")
    examples, report = read_examples(write(tmp_path, document))
    assert [example.answers for example in examples] == [(Answer("甲"),), (Answer("乙"),)]
    assert report.notes == {"context_empty": ["a", "b"]} and not report.problems


def test_starts_that_are_no_integer_are_noted(tmp_path: Path) -> None:
    starts = ["3", 3.0, " 3.0", True, None, "x", "3.5", "9" * 5000]
    document = squad(qa("a", answers=tuple(answer("甲", start) for start in starts)))
    examples, report = read_examples(write(tmp_path, document))
    assert [a.char_start for a in examples[0].answers] == [3, 3, 3, 0, 0, 0, 0, 0]
    assert report.notes["answer_start_not_integer"] == ["a"] * 4
    # A string of digits can only mean one thing; that it was taken so is said.
    assert report.notes["answer_start_string"] == ["a", "a"]
    assert "a: answer_start_string: expected a number, found the string '3'; read as 3" in map(str, report.problems)


def test_starts_in_a_list_beside_the_answers_are_read(tmp_path: Path) -> None:
    # PaddleNLP and PyText write "answers": ["甲"], "answer_starts": [3].
    beside = [
        {"id": "a", "question": "?", "answers": ["甲", "乙"], "answer_starts": [3, "4"]},
        {"id": "b", "question": "?", "answers": [{"text": "甲"}], "answer_start": [3]},
        {"id": "short", "question": "?", "answers": ["甲", "乙"], "answer_starts": [3]},
        {"id": "own", "question": "?", "answers": [answer("甲", 0)], "answer_starts": [3]},
    ]
    examples, report = read_examples(write(tmp_path, squad(*beside)))
    assert [[a.char_start for a in e.answers] for e in examples] == [[3, 4], [3], [0, 1], [0]]
    assert report.notes == {
        "answer_starts_beside": ["a", "a", "b"],
        "answer_start_string": ["a"],
        "answer_starts_malformed": ["short"],
        "searched": ["short", "short"],
    }
    assert "expected a list of 2, one start per answer, found a list of 1" in str(report.problems[1])


def test_no_answers_and_an_empty_list_of_answers_are_not_the_same(tmp_path: Path) -> None:
    without = [
        {"id": "missing", "question": "?"},
        {"id": "null", "question": "?", "answers": None},
        {"id": "misspelt", "question": "?", "answer": [answer("甲", 0)]},
        {"id": "empty", "question": "?", "answers": []},
        {"id": "impossible", "question": "?", "is_impossible": True},
        {"id": "possible", "question": "?", "is_impossible": False},
    ]
    examples, report = read_examples(write(tmp_path, squad(*without)))
    assert [e.id for e in examples if e.labelled] == ["empty", "impossible"]
    assert report.notes == {
        "unlabelled": ["missing", "null", "misspelt", "possible"],
        "no_answers": ["empty", "impossible"],
        "impossible_without_answers": ["impossible"],
    }
    (problem,) = report.problems
    assert str(problem) == (
        "misspelt: unlabelled: expected \"answers\", found nothing (its key 'answer': did you mean 'answers'?); "
        "kept without answers"
    )


@pytest.mark.parametrize(
    ("published", "read", "noted"),
    [
        (True, "true", False),
        ("false", "false", False),
        (1, "true", True),
        (0.0, "false", True),
        ("True", "true", True),
        (" 0 ", "false", True),
        ("maybe", None, True),
        (2, None, True),
    ],
)
def test_is_impossible_is_read_in_every_spelling_and_noted(
    tmp_path: Path, published: Any, read: str | None, noted: bool
) -> None:
    (example,), report = read_examples(write(tmp_path, squad({**qa("q"), "is_impossible": published})))
    assert example.extra == ({} if read is None else {"is_impossible": read})
    kind = "extra_malformed" if read is None else "is_impossible_spelled"
    assert (kind in report.notes) == noted
    if noted:
        assert report.problems[0].remedy == ("read as if it were missing" if read is None else f"read as {read}")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"Data": []}, "(its key 'Data': did you mean 'data'?)"),
        ([{"Paragraphs": []}], "(its key 'Paragraphs': did you mean 'paragraphs'?)"),
        ([{"Context_Text": "甲", "QAs": []}], "(its key 'Context_Text': did you mean 'context_text'?)"),
        ([{"context_text": "甲", "QAS": []}], "(its key 'QAS': did you mean 'qas'?)"),
        (squad({"ID": "q", "question": "?"}), "(its key 'ID': did you mean 'id'?)"),
        (squad({"id": "q", "Question": "?"}), "(its key 'Question': did you mean 'question'?)"),
        (
            {"data": [{"paragraphs": [{"contxt": "甲", "qas": [qa()]}]}]},
            "(its key 'contxt': did you mean 'context'?)",
        ),
    ],
)
def test_a_key_in_another_spelling_is_named(tmp_path: Path, document: Any, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_examples(write(tmp_path, document))
    assert said in str(caught.value)


def test_a_misspelt_start_is_named(tmp_path: Path) -> None:
    _, report = read_examples(write(tmp_path, squad(qa("q", answers=({"text": "甲", "answerStart": 3},)))))
    assert report.notes == {"answer_start_misspelt": ["q"], "searched": ["q"]}
    assert "(its key 'answerStart': did you mean 'answer_start'?); read as if there were no start" in str(
        report.problems[0]
    )


def rows() -> list[dict[str, Any]]:
    """Return questions as datasets' to_json writes them: answers as columns, a context in each row."""
    contexts = ["甲乙丙甲乙", "丙丁", "甲乙丙甲乙"]
    answers = [{"text": ["甲"], "answer_start": [3]}, {"text": [], "answer_start": []}, {"text": ["乙", "甲乙"]}]
    return [
        {"id": f"q{n}", "context": context, "question": "问？", "answers": columns}
        for n, (context, columns) in enumerate(zip(contexts, answers, strict=True))
    ]


def as_lines(items: list[Any]) -> str:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


@pytest.mark.parametrize("form", ["lines", "list", "data", "windows"])
def test_one_question_per_row_is_read_however_the_rows_are_written(tmp_path: Path, form: str) -> None:
    file = tmp_path / "data.jsonl"
    texts = {"lines": as_lines(rows()), "list": json.dumps(rows()), "data": json.dumps({"data": rows()})}
    texts["windows"] = "\ufeff" + texts["lines"].replace("\n", "\r\n\r\n")
    file.write_bytes(texts[form].encode())
    examples, report = read_examples(file)
    assert [e.id for e in examples] == ["q0", "q1", "q2"] and all(e.labelled for e in examples)
    assert [[(a.text, a.char_start) for a in e.answers] for e in examples] == [
        [("甲", 3)], [], [("乙", 1), ("甲乙", 0)]
    ]  # fmt: skip
    # A context is kept once, and makes the group that splits keep together.
    assert examples[0].context is examples[2].context
    assert [e.group for e in examples] == ["context 0", "context 1", "context 0"]
    assert (report.n_contexts, report.n_questions, report.n_kept) == (2, 3, 3)
    assert report.layout == "one question per row" and report.notes["searched"] == ["q2", "q2"]


def test_a_single_line_is_json_lines_too(tmp_path: Path) -> None:
    for item, layout in ((rows()[0], "one question per row"), (squad(qa())["data"][0], "SQuAD style")):
        file = tmp_path / "data.jsonl"
        file.write_text(json.dumps(item) + "\n", "utf-8")
        examples, report = read_examples(file)
        assert len(examples) == 1 and report.layout == layout


def test_articles_may_stand_one_per_line(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    squads = [squad(qa("a"))["data"][0], squad(qa("b"))["data"][0]]
    originals = [
        {
            "context_id": f"C{n}",
            "context_text": "甲",
            "qas": [{"query_id": f"q{n}", "query_text": "?", "answers": []}],
        }
        for n in range(2)
    ]
    for items, ids in ((squads, ["a", "b"]), (originals, ["q0", "q1"])):
        file.write_text(as_lines(items), "utf-8")
        assert [e.id for e in read_examples(file)[0]] == ids


def test_rows_that_can_not_be_used_are_counted_by_their_number(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    ragged = {"text": ["甲", "乙"], "answer_start": [0]}
    bad = [
        "no row",
        {"context": "甲", "question": "?"},
        {**rows()[1], "context": 7},
        {**rows()[2], "answers": ragged},
    ]
    file.write_text(as_lines([rows()[0], *bad]), "utf-8")
    examples, report = read_examples(file)
    assert len(examples) == 1 and report.dropped == {
        "question_malformed": ["row 2"], "id_missing": ["row 3"], "context_not_text": ["q1"],
        "answers_malformed": ["q2"],
    }  # fmt: skip


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(as_lines(rows()[:2]) + '{"id": "q2",', "utf-8")
    with pytest.raises(DataError, match=r"data\.jsonl: not JSON \(.* at line 3 column 13\)"):
        read_examples(file)


def test_the_hash_is_of_what_was_read_and_a_pipe_is_read_once(tmp_path: Path) -> None:
    content = json.dumps(squad(qa())).encode()
    os.mkfifo(tmp_path / "fifo")
    threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(content,), daemon=True).start()
    examples, report = read_examples(tmp_path / "fifo")
    assert len(examples) == 1 and report.sha256 == hashlib.sha256(content).hexdigest()
    assert report.to_json()["sha256"] == report.sha256


def test_what_is_read_can_always_be_written_as_utf8(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    document = squad({**qa("q"), "domain": "\ud800"})
    document["data"][0]["id"] = "\ud800"
    file.write_text(json.dumps(document), "utf-8")
    (example,), _ = read_examples(file)
    assert (example.group, example.extra) == ("?", {"domain": "?"})


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "bom.json"
    file.write_text("\ufeff" + json.dumps(squad(qa())), "utf-8")
    assert len(read_examples(file)[0]) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b'{"data": [', "line 1 column 11"),
        (b'{"data": "\xff"}', "not UTF-8 (byte 10)"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[" + b"1" * 10_000 + b"]", "can't be read"),
        (b'{"DEV_0_QUERY_0": "x"}', "found an object with the keys 'DEV_0_QUERY_0'; expected the SQuAD style"),
        (b"[1, 2]", "a list of the number 1"),
        (b"null", "found nothing"),
        (b'{"data": []}', "no questions"),
        (b'{"data": [{"paragraphs": []}]}', "no questions"),
        (b'{"data": [{"paragraphs": [{"context": "a", "qas": [{}]}]}]}', "none of its 1 questions can be used"),
    ],
)
def test_a_useless_file_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_examples(file)
    assert message in str(caught.value) and str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_directory_say_so(tmp_path: Path) -> None:
    paths = {"no such file": tmp_path / "nothing.json", "is a directory": tmp_path, "can't be read": "a\0b"}
    for message, path in paths.items():
        with pytest.raises(DataError, match=message):
            read_examples(path)
