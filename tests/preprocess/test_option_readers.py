"""C3, CHID and CMRC2019: every question or blank becomes an Example, or is counted with a reason."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from preprocess.base.errors import DataError
from preprocess.readers.blanks import CHID, CMRC2019, blank_parts, read_blanks
from preprocess.readers.c3 import read_c3
from preprocess.types import Answer

DIALOGUE = [
    ["男：去哪儿？", "女：去北京。"],
    [{"question": "去哪儿?", "choice": ["上海", "北京"], "answer": "北京"}],
    "1-1",
]
TEXT = [["小猫：在北京。"], [{"question": "在哪儿?", "choice": ["上海", "北京", "上海"], "answer": "上海"}], "1-1"]


def _write(directory: Path, document: Any, name: str = "data.json") -> Path:
    path = directory / name
    path.write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
    return path


def _c3(*questions: Any, lines: Any = "文", id: Any = "7") -> list[Any]:
    return [[[lines] if isinstance(lines, str) else lines, list(questions), id]]


# --- C3 ---


def test_c3_questions_are_told_apart_by_half_document_and_number(tmp_path: Path) -> None:
    examples, report = read_c3(_write(tmp_path, [DIALOGUE, TEXT]))
    first, second = examples
    assert (first.id, first.group, first.extra["domain"]) == ("d-1-1-1", "d-1-1", "d")
    assert first.context == "男：去哪儿？\n女：去北京。" and first.options == ("上海", "北京")
    assert first.answers == (Answer("北京", kind="option"),) and first.labelled
    # One line is no dialogue, whatever it begins with; the halves share ids.
    assert (second.id, second.extra["domain"]) == ("m-1-1-1", "m")
    assert report.notes == {"options_equal": ["m-1-1-1"]}
    assert (report.n_articles, report.n_contexts, report.n_questions, report.n_kept) == (2, 2, 2, 2)


def test_c3_files_one_after_the_other_or_packed_are_one_file(tmp_path: Path) -> None:
    texts = [json.dumps([document], ensure_ascii=False) for document in (DIALOGUE, TEXT)]
    examples, _ = read_c3(_write(tmp_path, "\n".join(texts)))
    assert [example.id for example in examples] == ["d-1-1-1", "m-1-1-1"]
    packed = tmp_path / "data.json.gz"
    packed.write_bytes(gzip.compress(texts[0].encode() + b"\n") + gzip.compress(texts[1].encode()))
    assert read_c3(packed)[0] == examples
    lines = _write(tmp_path, "\n".join(json.dumps(document) for document in (DIALOGUE, TEXT)))
    assert read_c3(lines)[0] == examples
    assert read_c3(_write(tmp_path, json.dumps(DIALOGUE)))[0] == examples[:1]


@pytest.mark.parametrize(
    ("document", "dropped"),
    [
        (_c3({"question": "?", "choice": ["甲"], "answer": "乙"}), {"answer_not_an_option": ["m-7-1"]}),
        (_c3({"question": "?", "choice": [], "answer": "乙"}), {"options_malformed": ["m-7-1"]}),
        (_c3({"question": "?", "choice": ["甲", None], "answer": "甲"}), {"options_malformed": ["m-7-1"]}),
        (_c3({"question": 1, "choice": ["甲"], "answer": "甲"}), {"question_not_text": ["m-7-1"]}),
        (_c3({"question": "?", "choice": ["\ud800"], "answer": "甲"}), {"lone_surrogate": ["m-7-1"]}),
        (
            _c3({"question": "?", "choice": ["甲"], "answer": "甲"}, id=None),
            {"id_missing": ["document 1 question 1"]},
        ),
        (
            _c3({"question": "?", "choice": ["甲"], "answer": "甲"}, lines=[1]),
            {"context_not_text": ["document 1 question 1"]},
        ),
        (_c3({}, "x"), {"question_not_text": ["m-7-1"], "question_malformed": ["document 1 question 2"]}),
        ([DIALOGUE], {"id_duplicate": ["d-1-1-1"]}),
    ],
)
def test_c3_questions_that_cant_be_used_are_counted(tmp_path: Path, document: Any, dropped: Any) -> None:
    examples, report = read_c3(_write(tmp_path, [DIALOGUE, *document]))
    assert [example.id for example in examples] == ["d-1-1-1"]
    assert report.dropped == dropped and report.lost


def test_c3_questions_name_themselves_where_documents_do_not(tmp_path: Path) -> None:
    """CLUE's test1.1.json has its ids there."""
    asked = [{"question": "?", "choice": ["甲", "乙"], "id": n} for n in (5, 6)]
    examples, report = read_c3(_write(tmp_path, [[["她来了。"], asked], [["女：一。", "男：二。"], asked[:1]]]))
    assert [e.id for e in examples] == ["m-question-5", "m-question-6", "d-question-5"]
    assert [e.group for e in examples] == ["m-question-5", "m-question-5", "d-question-5"], "of a text, together"
    assert [e.extra["id"] for e in examples] == ["5", "6", "5"] and not report.dropped
    odd = [{"question": "?", "choice": ["甲"], "id": {"n": 5}}]
    examples, _ = read_c3(_write(tmp_path, [[["她来了。"], odd, "7"]]))
    assert [(e.id, dict(e.extra)) for e in examples] == [("m-7-1", {"domain": "m"})], "no id, and none is needed"
    with pytest.raises(DataError, match="document 0 question 1: id_missing"):
        read_c3(_write(tmp_path, [[["她来了。"], odd]]))


def test_c3_says_what_is_no_document_and_what_is_odd(tmp_path: Path) -> None:
    question = {"question": "?", "choice": [609, "906"], "answer": 609}
    unlabelled = {"question": "?", "choice": ["甲"]}
    examples, report = read_c3(_write(tmp_path, [7, *_c3(question, unlabelled)]))
    assert examples[0].options == ("609", "906") and examples[0].answers[0].text == "609"
    assert not examples[1].labelled and examples[1].answers == ()
    assert report.notes == {"option_not_string": ["m-7-1"], "unlabelled": ["m-7-2"]}
    assert [str(problem) for problem in report.problems if problem.kind == "article_malformed"] == [
        'document 0: article_malformed: expected [[line, …], [{"question", "choice", "answer"}, …], id], '
        "found the number 7; document skipped"
    ]


@pytest.mark.parametrize("document", [[], {"data": []}, [[1, 2, 3]], "7", {"paragraphs": []}])
def test_c3_refuses_other_files_in_one_line(tmp_path: Path, document: Any) -> None:
    with pytest.raises(DataError, match=r"data\.json: found .*; expected a list of C3's documents"):
        read_c3(_write(tmp_path, document))


# --- blanks ---


def _passage(**changes: Any) -> dict[str, Any]:
    passage = {
        "context_id": "P",
        "context": "甲[BLANK1]乙[BLANK2]。",
        "choices": ["丙", "丁", "戊"],
        "answers": [2, 0],
    }
    return {**passage, **changes}


def test_each_blank_is_an_example_of_its_passage(tmp_path: Path) -> None:
    examples, report = read_blanks(_write(tmp_path, {"data": [_passage()]}), CMRC2019)
    assert [(e.id, e.question, e.answers[0].text, e.group) for e in examples] == [
        ("P-1", "[BLANK1]", "戊", "P"),
        ("P-2", "[BLANK2]", "丙", "P"),
    ]
    assert {e.context for e in examples} == {"甲[BLANK1]乙[BLANK2]。"}
    assert {e.options for e in examples} == {("丙", "丁", "戊")}
    assert (report.n_articles, report.n_questions, report.n_kept) == (1, 2, 2)
    # The number of a blank says whose answer is whose, wherever it stands.
    swapped = _passage(context="甲[BLANK2]乙[BLANK1]。")
    examples, _ = read_blanks(_write(tmp_path, [swapped]), CMRC2019)
    assert [(e.id, e.answers[0].text) for e in examples] == [("P-2", "丙"), ("P-1", "戊")]


@pytest.mark.parametrize(
    ("changes", "dropped"),
    [
        ({"answers": [2]}, {"blank_without_answer": ["P-2"]}),
        ({"answers": [2, 0, 1]}, {"answer_without_blank": ["passage 0 [BLANK3]"]}),
        ({"answers": [3, 0]}, {"answer_not_an_option": ["P-1"]}),
        ({"answers": [True, 0]}, {"answer_not_an_option": ["P-1"]}),
        ({"answers": "x"}, {"answers_malformed": ["P-1", "P-2"]}),
        ({"choices": "丙"}, {"options_malformed": ["P-1", "P-2"]}),
        ({"context_id": ""}, {"id_missing": ["passage 0 [BLANK1]", "passage 0 [BLANK2]"]}),
        ({"context": "甲[BLANK1]乙[BLANK1]", "answers": [1]}, {"blank_repeated": ["P-1", "P-1"]}),
        (
            {"context": "甲[BLANK0]乙[BLANK01]丙[BLANK１]", "answers": None},
            {"blank_misnumbered": ["P-0", "P-01", "P-１"]},
        ),
        ({"context": "甲[BLANK1]\ud800", "answers": [1]}, {"lone_surrogate": ["P-1"]}),
    ],
)
def test_blanks_that_cant_be_used_are_counted(tmp_path: Path, changes: Any, dropped: Any) -> None:
    other = _passage(context_id="Q")
    examples, report = read_blanks(_write(tmp_path, {"data": [_passage(**changes), other]}), CMRC2019)
    assert report.dropped == dropped
    assert report.n_kept == len(examples) == report.n_questions - sum(map(len, dropped.values()))


def test_passages_without_answers_or_text_are_told(tmp_path: Path) -> None:
    unlabelled = {key: value for key, value in _passage().items() if key != "answers"}
    spelled = _passage(context_id="S", answers=["2", 0.0])
    nothing = _passage(context_id="N", context=None)
    examples, report = read_blanks(_write(tmp_path, [unlabelled, spelled, nothing]), CMRC2019)
    assert [(e.id, e.labelled, len(e.answers)) for e in examples] == [
        ("P-1", False, 0), ("P-2", False, 0), ("S-1", True, 1), ("S-2", True, 1),
    ]  # fmt: skip
    assert report.notes == {"unlabelled": ["P-1", "P-2"], "answer_spelled": ["S-1", "S-2"]}
    assert [p.kind for p in report.problems if p.id == "passage 2"] == ["article_malformed"] and report.lost


CHID_LINES = [
    {"groupId": 3, "candidates": ["一心一意", "三心二意"], "content": ["他#idiom000001#。", "又#idiom000002#。"]},
    {"groupId": 4, "candidates": ["一心一意", "三心二意"], "content": ["她#idiom000003#。"]},
]


def test_chid_finds_the_answers_beside_its_file(tmp_path: Path) -> None:
    file = _write(tmp_path, "\n".join(json.dumps(line, ensure_ascii=False) for line in CHID_LINES), "dev.json")
    examples, report = read_blanks(file, CHID)
    assert [e.labelled for e in examples] == [False] * 3 and report.notes["unlabelled"] == [e.id for e in examples]
    _write(tmp_path, {"#idiom000001#": 1, "#idiom000002#": 0, "#idiom000009#": 0}, "dev_answer.json")
    examples, report = read_blanks(file, CHID)
    assert [(e.id, e.question, e.context, e.group, e.answers[0].text) for e in examples] == [
        ("#idiom000001#", "#idiom000001#", "他#idiom000001#。", "3", "三心二意"),
        ("#idiom000002#", "#idiom000002#", "又#idiom000002#。", "3", "一心一意"),
    ]
    assert report.dropped == {"blank_without_answer": ["#idiom000003#"]}
    hashed = report.sha256
    _write(tmp_path, {"#idiom000001#": 0, "#idiom000002#": 0}, "dev_answer.json")
    assert read_blanks(file, CHID)[1].sha256 != hashed, "other answers are other data"
    _write(tmp_path, {"#idiom000001#": 1, "#idiom000002#": 0, "#idiom000009#": 0}, "dev_answer.json")
    packed = tmp_path / "dev.json.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert read_blanks(packed, CHID)[0] == examples
    _write(tmp_path, "[1]", "dev_answer.json")
    with pytest.raises(DataError, match=r"dev_answer\.json: a JSON object was expected, found a list of 1"):
        read_blanks(file, CHID)


def test_chid_answers_may_be_lines_and_passages_need_no_id(tmp_path: Path) -> None:
    lines = [{name: value for name, value in line.items() if name != "groupId"} for line in CHID_LINES]
    file = _write(tmp_path, "\n".join(json.dumps(line, ensure_ascii=False) for line in lines), "train.txt")
    answers = tmp_path / "train_answer.csv"
    answers.write_bytes("\ufeff#idiom000001#,1\r\n#idiom000002#, 0\r\n\r\n#idiom000003#,x\r\n".encode())
    examples, report = read_blanks(file, CHID)
    assert [(e.group, e.answers[0].text) for e in examples] == [("passage 0", "三心二意"), ("passage 0", "一心一意")]
    assert report.dropped == {"answer_not_an_option": ["#idiom000003#"]} and not report.notes
    for written, said in (
        ("#idiom000001# 1", "line 1 is '#idiom000001# 1'; "),
        ("#idiom1#,1\n#idiom1#,2", "line 2 "),
    ):
        answers.write_text(written)
        with pytest.raises(DataError, match=rf"train_answer\.csv: {said}"):
            read_blanks(file, CHID)


def test_chid_answers_may_stand_in_the_passage(tmp_path: Path) -> None:
    own = [{**CHID_LINES[0], "answers": {"#idiom000001#": 1, "#idiom000002#": 1}}]
    examples, _ = read_blanks(_write(tmp_path, own), CHID)
    assert [e.answers[0].text for e in examples] == ["三心二意"] * 2


@pytest.mark.parametrize("layout", [CHID, CMRC2019])
@pytest.mark.parametrize("document", [[], {"data": 1}, [1], {"paragraphs": []}])
def test_files_without_passages_are_refused_in_one_line(tmp_path: Path, layout: Any, document: Any) -> None:
    with pytest.raises(DataError, match=rf"data\.json: found .*; expected passages of {layout.name}, with"):
        read_blanks(_write(tmp_path, document), layout)


@pytest.mark.realdata
def test_published_files_are_read_without_a_loss(data_dir: Path) -> None:
    numbers = {}
    for name in ("c3-d-dev.json", "c3-m-dev.json", "c3-d-train.json.gz", "c3-m-train.json.gz"):
        examples, report = read_c3(data_dir / "extra" / "c3" / name)
        assert not report.dropped and {e.extra["domain"] for e in examples} == {name[3]}
        numbers[name] = (report.n_articles, report.n_kept, len(report.notes.get("options_equal", ())))
    assert list(numbers.values()) == [(1628, 1825, 1), (1046, 1991, 0), (4885, 5856, 3), (3138, 6013, 2)]
    for name, n_passages, n_blanks in (("dev", 300, 3053), ("trial", 139, 1504)):
        examples, report = read_blanks(data_dir / "extra" / "cmrc2019" / f"cmrc2019_{name}.json", CMRC2019)
        assert (report.n_articles, report.n_kept, report.notes, report.problems) == (n_passages, n_blanks, {}, [])
        assert len({e.group for e in examples}) == n_passages


def test_passages_of_chid_take_their_answers_along_when_they_are_divided(tmp_path: Path) -> None:
    file = _write(tmp_path, "\n".join(json.dumps(line, ensure_ascii=False) for line in CHID_LINES), "dev.json")
    _write(tmp_path, {f"#idiom00000{n}#": n % 2 for n in (1, 2, 3)}, "dev_answer.json")
    parts = blank_parts(file.read_bytes(), file, CHID)
    assert [dict(ties)["groupId"] for ties in parts.ties] == ["3", "4"] and parts.unit == "passages"
    whole, _ = read_blanks(file, CHID)
    found = [read_blanks(_write(tmp_path, parts.write([i]), f"part{i}.json"), CHID)[0] for i in (0, 1)]
    assert [*found[0], *found[1]] == whole and all(example.labelled for example in whole)
