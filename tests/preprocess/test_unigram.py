"""Unigram tokenizers of tokenizer.json: the library's ids, exact spans, and what they are used with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Engine

from preprocess.base.errors import DataError
from preprocess.tokenizers.base import Tokenizer, load_tokenizer
from tests.support.vocabularies import unigram_json, write_unigram

TEXTS = [
    "我爱北京。",
    " 我 爱  new s",
    "我…爱……",
    "\u200b",
    "",
    "我\u3000爱\u00a0S㎡",
    "ﬁa b",
    "𠮷我𠮷",
    "a\x07b",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unigram(tmp_path_factory.mktemp("unigram"))


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> Tokenizer:
    return load_tokenizer(directory)


def pieces(tokenizer: Tokenizer, text: str) -> list[tuple[str, int, int]]:
    encoded = tokenizer.encode([text])
    return [(tokenizer.tokens[i], int(a), int(b)) for i, (a, b) in zip(encoded.ids, encoded.spans, strict=True)]


def test_ids_are_the_library_s(directory: Path, tokenizer: Tokenizer) -> None:
    engine = Engine.from_file(str(directory / "tokenizer.json"))
    encoded = tokenizer.encode(TEXTS)
    for text, first, last in zip(TEXTS, encoded.splits, encoded.splits[1:], strict=False):
        assert encoded.ids[first:last].tolist() == engine.encode(text, add_special_tokens=False).ids, text


def test_a_span_is_the_characters_of_its_piece_without_white_space(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, " 我  爱new") == [("▁我", 1, 2), ("▁", 4, 4), ("爱", 4, 5), ("new", 5, 8)]


def test_an_ellipsis_and_other_characters_that_become_several_have_one_place(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, "我…爱") == [("▁我", 0, 1), ("...", 1, 2), ("爱", 2, 3)]
    # Both halves of "㎡" hold all of it: an answer that begins or ends with either is a slice of the text.
    assert pieces(tokenizer, "a㎡b") == [("▁a", 0, 1), ("m", 1, 2), ("2", 1, 2), ("b", 2, 3)]


def test_special_tokens_written_in_a_text_are_ordinary_characters(tokenizer: Tokenizer) -> None:
    assert not set(tokenizer.encode(["<s> a</s><mask>"]).ids.tolist()) & {0, 1, 2, tokenizer.special_ids["mask"]}


def test_the_second_text_has_places_of_its_own(tokenizer: Tokenizer) -> None:
    both = tokenizer.encode(["我爱北京。", "北京"])
    assert both.spans[both.splits[1] :].tolist() == tokenizer.encode(["北京"]).spans.tolist() == [[0, 0], [0, 2]]


def test_roles_and_template_are_had_from_tokenizer_json_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.special_ids == {"pad": 1, "unk": 3, "cls": 0, "sep": 2, "mask": 27, "bos": 0, "eos": 2}
    assert (tokenizer.template, tokenizer.vocab_size, tokenizer.options) == ("roberta", 28, {"do_lower_case": False})


def test_a_saved_tokenizer_loads_again_here_and_in_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.fingerprint, again.template) == (tokenizer.fingerprint, "roberta")
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert theirs(text, add_special_tokens=False)["input_ids"] == again.encode([text]).ids.tolist()
    assert theirs("a", "b")["input_ids"] == [0, *again.encode(["a"]).ids, 2, 2, *again.encode(["b"]).ids, 2]
    assert theirs.pad_token_id == 1 and theirs.mask_token_id == 27


def test_capital_letters_are_read_as_told(directory: Path) -> None:
    kept, lowered = load_tokenizer(directory), load_tokenizer(directory, do_lower_case=True)
    assert [p for p, *_ in pieces(kept, "NewS")][-1] == "S" and pieces(lowered, "NEW") == [("▁new", 0, 3)]
    assert kept.fingerprint != lowered.fingerprint


def test_a_piece_without_characters_is_not_what_half_surrogates_are(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode(["\ud800我", "我"])
    assert encoded.spans[: encoded.splits[1]].tolist()[-1] == [1, 2] and encoded.ids.dtype == np.uint16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": {"type": "Unigram", "vocab": [["<s>", 0.0]], "unk_id": 0}, "added_tokens": []},
            "lacks .* pad, unk, sep",
        ),
        ({"model": {"type": "Unigram", "vocab": "x"}}, 'no "vocab"'),
        ({"normalizer": {"type": "Unheard"}}, "the tokenizers library can't read it"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_tokenizer(write_unigram(tmp_path, **changes))


def test_an_added_token_is_taken_from_the_text_as_a_whole(tmp_path: Path) -> None:
    added = [*unigram_json()["added_tokens"], {"id": 28, "content": "北京爱", "special": False, "normalized": False}]
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    tokenizer = load_tokenizer(write_unigram(tmp_path, added_tokens=[{**flags, **token} for token in added]))
    assert pieces(tokenizer, "我北京爱 a")[1:] == [("北京爱", 1, 4), ("▁a", 5, 6)] and tokenizer.vocab_size == 29
