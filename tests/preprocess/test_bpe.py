"""Byte-level BPE: the library's ids, spans of whole characters, and the files that vocabularies come in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.tokenizers.base import Tokenizer, load_tokenizer
from tests.support.spans import cover
from tests.support.vocabularies import LINES, train_bpe

TEXTS = [*LINES, " The  Normans\n\tit’s …", "𫚭战国İ e\u0301 \u3000㎡ \x07\u200b<s> </s>", "", " ", "Ġ ▁x"]
#: Bytes that GPT-2 writes as characters of their own; the others are U+0100 and up, in order.
PLAIN = [*range(33, 127), *range(161, 173), *range(174, 256)]
REST = [byte for byte in range(256) if byte not in PLAIN]
BYTES = {chr(byte): byte for byte in PLAIN} | {chr(256 + place): byte for place, byte in enumerate(REST)}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_bpe(tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> Tokenizer:
    return load_tokenizer(directory)


def theirs(directory: Path, **options: Any) -> Any:
    from transformers import RobertaTokenizer

    return RobertaTokenizer.from_pretrained(directory, **options)


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    encoded = tokenizer.encode(texts)
    return [part.tolist() for part in np.split(encoded.ids, encoded.splits[1:-1])]


def spans_of(tokenizer: Tokenizer, text: str) -> list[list[int]]:
    return tokenizer.encode([text]).spans.tolist()


def spelled(piece: str) -> str:
    """Return the bytes of a piece as characters 0 to 255, without the white space that it begins or ends with."""
    return "".join(chr(BYTES[char]) for char in piece).strip(" \t\n\r")  # strip() takes bytes for white space


def test_ids_are_transformers(directory: Path, tokenizer: Tokenizer) -> None:
    texts = [text for text in TEXTS if "<s>" not in text]
    assert ids_of(tokenizer, texts) == theirs(directory)(texts, add_special_tokens=False)["input_ids"]


def test_spans_hold_whole_characters_and_cover_each_that_is_no_white_space(tokenizer: Tokenizer) -> None:
    found = cover(tokenizer, TEXTS, lambda text: text.encode().decode("latin-1"), spelled)
    # Of white space no span is left; no other span is shorter than the character that its bytes are a part of.
    assert not found.dropped and all(not held for _, held in found.odd) and set(found.shared) >= set("㎡𫚭")


def test_every_piece_of_a_character_has_all_of_it(tokenizer: Tokenizer) -> None:
    assert spans_of(tokenizer, "a𫚭b") == [[0, 1], *[[1, 2]] * 4, [2, 3]]


def test_white_space_is_in_no_span(tokenizer: Tokenizer) -> None:
    """Elsewhere the offsets of pieces include the space before them: huggingface/transformers#14418."""
    text = " The  Normans\n"
    spans = spans_of(tokenizer, text)
    assert "".join(text[a:b] for a, b in spans) == "TheNormans"
    assert [a for a, b in spans if a == b] == [1, 5, 14]  # what stands for a blank alone has no character


def test_a_prefix_space_is_added_where_the_files_say_so(directory: Path, tmp_path: Path) -> None:
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": True}), "utf-8")
    tokenizer = load_tokenizer(tmp_path)
    texts = ["The Normans", "战国"]
    assert (
        ids_of(tokenizer, texts)
        == theirs(tmp_path, add_prefix_space=True)(texts, add_special_tokens=False)["input_ids"]
    )
    assert spans_of(tokenizer, "The")[0][0] == 0 and spans_of(tokenizer, "战")[0] == [0, 0]
    assert tokenizer.fingerprint != load_tokenizer(directory).fingerprint


def test_lines_may_end_as_on_windows(directory: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((directory / name).read_bytes().replace(b"\n", b"\r\n"))
    assert ids_of(load_tokenizer(tmp_path), TEXTS) == ids_of(tokenizer, TEXTS)


def test_a_saved_tokenizer_loads_again_here_and_in_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.fingerprint, again.template, again.kind) == (tokenizer.fingerprint, "roberta", "BPE")
    auto = AutoTokenizer.from_pretrained(tmp_path)
    [first, second] = ids_of(again, LINES[3:5])
    assert auto(LINES[3], LINES[4])["input_ids"] == [0, *first, 2, 2, *second, 2]
    assert {role: getattr(auto, f"{role}_token_id") for role in again.special_ids} == dict(again.special_ids)


def test_special_tokens_written_in_a_text_are_ordinary_characters(tokenizer: Tokenizer) -> None:
    assert not set(tokenizer.encode(["<s>a</s><mask>"]).ids.tolist()) & set(tokenizer.special_ids.values())


def test_added_tokens_are_taken_from_the_text_as_a_whole(directory: Path, tmp_path: Path) -> None:
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    n = load_tokenizer(directory).vocab_size
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[案]": n}), "utf-8")
    tokenizer = load_tokenizer(tmp_path)
    encoded = tokenizer.encode(["战[案] 国"])
    assert encoded.spans[encoded.ids == n].tolist() == [[1, 4]] and tokenizer.vocab_size == n + 1
    assert encoded.spans[-1].tolist() == [5, 6]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vocab.json": "{}"}, "no merges.txt; BPE needs vocab.json and merges.txt"),
        ({"merges.txt": ""}, "no vocab.json"),
        (
            {"vocab.json": "{}", "merges.txt": "#version: 0.2\na b c\n"},
            "merges.txt: line 2 is 'a b c', expected two pieces",
        ),
        ({"vocab.json": '{"a": 0, "b": 1}', "merges.txt": "a b\n"}, "vocab.json: lacks the special tokens"),
        ({"vocab.json": '{"<s>": 0, "</s>": "x"}', "merges.txt": ""}, "the id of '</s>' is 'x'"),
    ],
)
def test_damaged_files_are_one_clear_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("model", {"dropout": 0.1}, "leaves out merges at random .dropout 0.1."),
        ("pre_tokenizer", {"type": "Whitespace"}, 'its model states no "unk_token"'),
    ],
)
def test_a_tokenizer_that_gives_texts_no_ids_of_their_own_is_refused(
    tokenizer: Tokenizer, tmp_path: Path, part: str, changes: dict[str, Any], message: str
) -> None:
    tokenizer.save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    saved[part] |= changes
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved), "utf-8")
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)
