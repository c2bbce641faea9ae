"""Files of rows as they are published, and as they come after somebody has had them in an editor."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from preprocess.base.errors import DataError
from preprocess.readers.parts import RowParts
from preprocess.readers.rows import CONTEXT, LABEL, QUESTION, Columns, Labels, read_classified
from preprocess.readers.tagged import read_tagged, tagged_parts
from preprocess.types import Answer
from tasks.core.discovery import get_task

SINGLE, PAIR = Columns((LABEL, CONTEXT)), Columns((QUESTION, CONTEXT, LABEL))
LABELS = Labels(("0", "1"), {"good": "1"})


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "data.tsv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def _single(path):
    examples, report = read_classified(path, SINGLE, LABELS)
    return [(e.id, e.context, [a.text for a in e.answers]) for e in examples], report


def test_a_header_says_which_column_is_which(file):
    rows = [("2", "很好", ["1"]), ("3", "不好", ["0"])]
    for content in (
        "label\ttext_a\n1\t很好\n0\t不好\n",
        "text_a\tlabel\n很好\t1\n不好\t0\n",
        "id\tlabel\tnote\tsentence\n7\t1\t\t很好\n8\t0\t\t不好\n",
    ):
        found, report = _single(file(content))
        assert found == rows and report.layout == "rows with a header" and not report.lost
        assert (report.n_questions, report.n_kept) == (2, 2)


def test_without_a_header_columns_stand_in_the_published_order(file):
    found, report = _single(file("1\t很好\n0\t不好"))
    assert found == [("1", "很好", ["1"]), ("2", "不好", ["0"])] and report.layout == "rows"


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: gzip.compress(text.encode()),
        lambda text: text.encode() + b"\n\r\n \n",
    ],
    ids=["byte order mark", "UTF-16", "CRLF", "gzip", "blank lines at the end"],
)
def test_what_editors_and_archivers_do_to_a_file_changes_nothing(encode, file):
    found, report = _single(file(encode("label\ttext_a\n1\t很好\n")))
    assert found == [("2", "很好", ["1"])] and not report.dropped and not report.notes


def test_texts_stay_as_they_were_published(file):
    """Quotation marks are no CSV, and U+2028 and U+0085 end no line."""
    text = '"甲\u2028乙\u0085丙\x08\x00" '
    found, report = _single(file(f"1\t{text}\n"))
    assert found == [("1", text, ["1"])] and report.notes == {"context_unstripped": ["1"]}


def test_every_row_is_kept_or_dropped_for_a_reason(file):
    content = "label\ttext_a\n1\t甲\n\n2\t乙\n1\t丙\t丁\n戊\n\t己\n1\t\n good \t庚\n"
    found, report = _single(file(content))
    assert found == [("2", "甲", ["1"]), ("7", "己", []), ("8", "", ["1"]), ("9", "庚", ["1"])]
    assert report.dropped == {
        "row_empty": ["line 3"], "label_unknown": ["4"], "columns_wrong": ["line 5", "line 6"],
    }  # fmt: skip
    assert report.notes == {"unlabelled": ["7"], "context_empty": ["8"]}
    assert (report.n_questions, report.n_kept) == (8, 4)
    lines = "\n".join(report.lines(limit=None))
    assert "4: label_unknown: expected one of 0, 1, found '2'; question dropped" in lines
    assert "line 5: columns_wrong: expected 2 columns, found 3 columns" in lines


def test_a_file_without_labels_is_one_to_be_answered(file):
    for content in ("text_a\n甲\n乙\n", "甲\n乙\n"):
        examples, report = read_classified(file(content), SINGLE, LABELS)
        assert [e.context for e in examples] == ["甲", "乙"] and not any(e.labelled for e in examples)
        assert not report.lost and len(report.notes["unlabelled"]) == 2


def test_rows_about_one_question_are_known_by_the_line_of_the_first(file):
    examples, report = read_classified(file("谁\t甲\t0\n何\t乙\t1\n谁\t丙\t1\n"), PAIR, LABELS, group=QUESTION)
    assert [(e.id, e.group, e.question, e.context) for e in examples] == [
        ("1_1", "1", "谁", "甲"), ("2_2", "2", "何", "乙"), ("1_3", "1", "谁", "丙"),
    ]  # fmt: skip
    assert report.n_articles == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows in it; give a file of the tab-separated columns label, context"),
        (b"label\ttext_a\n", "no rows in it"),
        (b"\n\n", "no rows in it"),
        ("1\t好".encode("gbk"), r"not UTF-8 \(byte 2\); save it as UTF-8"),
        (b"\x1f\x8bnonsense", "a damaged gzip file .*; get it again"),
        (gzip.compress(b"1\t\xe7\x94\xb2" * 99, mtime=0)[:-9], "a damaged gzip file"),
        ("x\t甲\ny\t乙\n".encode(), "none of its 2 rows can be used; first: 1: label_unknown"),
    ],
)
def test_a_file_of_no_use_is_one_line(content, message, file):
    with pytest.raises(DataError, match=message) as error:
        _single(file(content))
    assert "\n" not in str(error.value) and "data.tsv" in str(error.value)


def test_no_file_and_a_directory_are_named(tmp_path):
    for path, message in ((tmp_path / "none", "no such file"), (tmp_path, "is a directory; give one file")):
        with pytest.raises(DataError, match=message):
            _single(path)


def test_tags_become_pieces_of_the_joined_tokens(file):
    content = "text_a\tlabel\n青\x02岛\x02在\x02New\x02York\tB-LOC\x02I-LOC\x02O\x02I-LOC\x02I-LOC\n"
    for text in (content, content.replace("\x02", " ")):
        (example,), report = read_tagged(file(text), ("PER", "LOC"))
        assert example.context == "青岛在NewYork" and not report.lost
        assert example.answers == (Answer("青岛", 0, 2, "LOC"), Answer("NewYork", 3, 10, "LOC"))


def test_rows_with_wrong_tags_are_dropped_and_those_without_are_unlabelled(file):
    content = "甲\x02乙\tO\n甲\x02乙\tO\x02B-ORG\n甲\x02乙\tO\x02X\n甲\x02乙\t\n甲\tO\n"
    examples, report = read_tagged(file(content), ("PER",))
    assert [(e.id, e.context, e.labelled) for e in examples] == [("4", "甲乙", False), ("5", "甲", True)]
    assert report.dropped == {"tags_wrong": ["1"], "label_unknown": ["2", "3"]}


def test_a_file_is_divided_by_its_rows_and_keeps_its_header():
    content = "label\ttext_a\n1\t甲\n0\t乙\n1\t甲\n\n坏\n".encode()
    parts = RowParts(SINGLE)(content, "x")
    assert [list(ties) for ties in parts.ties] == [
        [(CONTEXT, "甲")], [(CONTEXT, "乙")], [(CONTEXT, "甲")], [], [],
    ]  # fmt: skip
    assert list(parts.strata) == ["1", "0", "1", "", "坏"]
    assert parts.write([0, 2, 4]) == "label\ttext_a\n1\t甲\n1\t甲\n坏\n"


CONLL = "北 B-LOC\r\n京\tI-LOC\r\n好 O\r\n\r\n\r\n张 B-PER\r\n\r\n你 O\r\n坏\r\n\r\n他 B-X\r\n\r\n我 O"


def test_a_token_per_line_is_read_as_texts_and_divided_between_them(tmp_path):
    """Read as rows, each character would be a text of its own, and nothing would say so."""
    path = tmp_path / "train.txt"
    path.write_bytes(CONLL.encode())
    examples, report = read_tagged(path, ("PER", "LOC"))
    assert [(e.id, e.context, [(a.text, a.kind) for a in e.answers]) for e in examples] == [
        ("1", "北京好", [("北京", "LOC")]),
        ("6", "张", [("张", "PER")]),
        ("13", "我", []),
    ]
    assert report.layout == "a token and its tag per line"
    assert (report.n_questions, report.dropped) == (5, {"token_malformed": ["8"], "label_unknown": ["11"]})
    assert "'坏' in line 9" in "\n".join(report.lines())
    parts = tagged_parts(path.read_bytes(), path)
    assert parts.write([1, 2]) == "张 B-PER\n\n你 O\n坏\n\n" and len(parts.ties) == 5
    path.write_text(parts.write([0]))
    assert read_tagged(path, ("PER", "LOC"))[0] == examples[:1]


def test_rows_of_other_languages_are_no_questions(tmp_path):
    """XNLI's own dev and test files hold fifteen languages."""
    path = tmp_path / "xnli.dev.tsv"
    header = "language\tgold_label\tsentence1_parse\tsentence1\tsentence2\tlabel1\n"
    path.write_text(f"{header}ar\tneutral\t\ta\tb\tx\nzh\tneutral\t\t甲\t乙\tx\nzh\tneutral\t甲\n", "utf-8")
    examples, report = get_task("xnli").read(path)
    assert [(e.id, e.question, e.context) for e in examples] == [("3_3", "甲", "乙")]
    assert (report.n_questions, report.notes) == (2, {"language_other": ["line 2"]})
    assert report.dropped == {"columns_wrong": ["line 4"]}
    path.write_text(f"{header}ar\tneutral\t\ta\tb\tx\n", "utf-8")
    with pytest.raises(DataError, match="all of its rows are of another language"):
        get_task("xnli").read(path)
