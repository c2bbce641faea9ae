"""Readers: both layouts, where an answer stands, and a counted reason for every question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preprocess.base.errors import DataError
from preprocess.readers.mrc import locate, read_examples
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
    assert report.notes == {"searched": ["bare"], "no_answers": ["unlabelled"]}
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
    document = squad(qa("a", answers=(answer("甲", "3"), answer("甲", 3.0), answer("甲", True), answer("甲", None))))
    examples, report = read_examples(write(tmp_path, document))
    assert [a.char_start for a in examples[0].answers] == [0, 3, 0, 0]
    assert report.notes["answer_start_not_integer"] == ["a", "a"]


def test_what_is_read_can_always_be_written_as_utf8(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    document = squad({**qa("q"), "is_impossible": "\ud800"})
    document["data"][0]["id"] = "\ud800"
    file.write_text(json.dumps(document), "utf-8")
    (example,), _ = read_examples(file)
    assert (example.group, example.extra) == ("?", {"is_impossible": "?"})


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
    with pytest.raises(DataError, match="no such file"):
        read_examples(tmp_path / "nothing.json")
    with pytest.raises(DataError, match="is a directory"):
        read_examples(tmp_path)
    with pytest.raises(DataError, match="can't be read"):
        read_examples("a\0b")
