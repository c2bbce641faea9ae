"""JSON that others have written: read whole, or refused in one line that names file, place and remedy."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from preprocess.base.errors import CheckpointError, DataError
from preprocess.base.jsonfile import describe, parse_json, read_json, read_json_object


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON (Expecting value at line 1 column 1); give another file"),
        (b'{"a": [\n1,', "at line 2 column 3"),
        (b"{}\n{}", "not JSON (Extra data at line 2 column 1)"),
        ('{"a": "甲"}'.encode("gb18030"), "not JSON: not UTF-8 (byte 7); save it as UTF-8, or give another file"),
        (b"\xff\xfe{\x00\x00\xd8", "not JSON: not UTF-16 (byte 4); save it as UTF-8, or give another file"),
        (b"[" * 200_000, "JSON nested too deeply"),
        (b"1" * 10_000, "JSON that can't be read (Exceeds the limit"),
        (
            b'{"a": {"b": 1, "b": 2}}',
            "the key 'b' twice, with the number 1 and with the number 2; give each key once",
        ),
        (b'{"b": 1, "b": true}', "the key 'b' twice, with the number 1 and with the boolean True"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_of_the_callers_class(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    for error in (DataError, CheckpointError):
        with pytest.raises(error) as caught:
            read_json(file, error, "give another file")
        text = str(caught.value)
        assert text.startswith(f"{file}: ") and message in text and "\n" not in text


def test_a_file_that_can_not_be_opened_says_why(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "is a directory"),
        ("a\0b", "can't be read"),
    ):
        with pytest.raises(CheckpointError, match=message):
            read_json(path, CheckpointError, "give another file")


def test_a_byte_order_mark_and_equal_repetitions_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": [1, {}], "a": [1, {}]}')
    assert read_json_object(file) == {"a": [1, {}]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_notepad_saves_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes('{"键": "值"}'.encode(encoding))
    assert read_json_object(tmp_path / "a.json") == {"键": "值"}


def test_an_object_is_asked_for_and_what_was_found_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="a JSON object was expected, found a list of 2; get it again"):
        read_json_object(file)


def test_json_lines_are_a_list_where_they_are_asked_for() -> None:
    def lines(content: bytes) -> object:
        return parse_json(content, "a", DataError, "give another file", lines=True)

    assert lines(b'\xef\xbb\xbf{"a": 1}\r\n\n {"a": 2} \n') == [{"a": 1}, {"a": 2}]
    assert lines(b'{"a": 1}\n') == {"a": 1}  # one value, on however many lines
    assert lines(b"[\n1,\n2\n]") == [1, 2]
    for content, message in (
        (b'{"a": 1}\n{"a": 2', "line 2 column 8"),
        (b'{"a": 1} {"a": 2}', "Extra data at line 1 column 10"),
        (b'{"a": 1}\n{"b": 1, "b": 2}', "the key 'b' twice"),
    ):
        with pytest.raises(DataError) as caught:
            lines(content)
        assert message in str(caught.value)


def test_values_are_described_in_a_few_printable_words() -> None:
    assert describe(None) == "nothing"
    assert describe({"a": 1, "\ud800": 2}) == "an object with the keys 'a', '\\ud800'"
    assert describe({}) == "an empty object" and describe([1]) == "a list of 1"
    assert describe(True) == "the boolean True" and describe(1.5) == "the number 1.5"
    assert describe("x" * 10**6) == f"the string '{'x' * 59}…"


def test_a_file_packed_by_gzip_is_read_as_what_is_in_it(tmp_path: Path) -> None:
    file, packed = tmp_path / "a.json.gz", gzip.compress('{"a": "甲"}'.encode())
    for content in (packed, gzip.compress('{"a": "甲"}'.encode("utf-16"))):
        file.write_bytes(content)
        assert read_json(file, DataError, "give another file") == {"a": "甲"}
    for content in (packed[:-6], packed[:12] + b"\xff" + packed[13:], packed + b"more", b"\x1f\x8b\x08"):
        file.write_bytes(content)
        with pytest.raises(
            DataError, match=r"a\.json\.gz: a damaged gzip file .*; get it again, or give another file"
        ):
            read_json(file, DataError, "give another file")
