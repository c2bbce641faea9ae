"""Unigram tokenizers of tokenizer.json: the library's ids, exact spans, and what they are used with."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from tokenizers import Tokenizer as Engine

from preprocess.base.errors import DataError
from preprocess.tokenizers.base import Tokenizer, load_tokenizer
from tests.support.spans import cover
from tests.support.vocabularies import train_spiece, unigram_json, write_unigram

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
    """Elsewhere offsets drop first letters: EuroEval#2173."""
    assert pieces(tokenizer, " 我  爱new") == [("▁我", 1, 2), ("▁", 4, 4), ("爱", 4, 5), ("new", 5, 8)]


def test_an_ellipsis_and_other_characters_that_become_several_have_one_place(tokenizer: Tokenizer) -> None:
    """Elsewhere `…` and control characters have wrong offsets: huggingface/tokenizers#663."""
    assert pieces(tokenizer, "我…爱") == [("▁我", 0, 1), ("...", 1, 2), ("爱", 2, 3)]
    # Both halves of "㎡" hold all of it: an answer that begins or ends with either is a slice of the text.
    assert pieces(tokenizer, "a㎡b") == [("▁a", 0, 1), ("m", 1, 2), ("2", 1, 2), ("b", 2, 3)]


def test_special_tokens_written_in_a_text_are_ordinary_characters(tokenizer: Tokenizer) -> None:
    assert not set(tokenizer.encode(["<s> a</s><mask>"]).ids.tolist()) & {0, 1, 2, tokenizer.special_ids["mask"]}


def test_the_second_text_has_places_of_its_own(tokenizer: Tokenizer) -> None:
    """Elsewhere the second Chinese segment had wrong offsets: huggingface/tokenizers#143."""
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
        # The library reads these, and raises at a text's first unknown character, or spells spaces as "Ġ".
        ({"model": {**unigram_json()["model"], "unk_id": None}}, 'its model states no "unk_id"'),
        ({"normalizer": {"type": "ByteLevel"}}, "its normalizer is ByteLevel"),
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


@pytest.fixture(scope="module")
def xlmr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json with SentencePiece's own normaliser, as transformers writes it for XLM-R."""
    from transformers import AutoTokenizer

    directory = tmp_path_factory.mktemp("xlmr")
    load_tokenizer(train_spiece(directory / "model", "xlmr")).save(directory / "model")
    AutoTokenizer.from_pretrained(directory / "model").save_pretrained(directory / "saved")
    return directory / "saved"


def test_control_characters_move_no_place(xlmr: Path) -> None:
    tokenizer = load_tokenizer(xlmr)
    # The library's own offsets are one too low behind a control character that begins a text.
    for text in ("\x07北京市", "北\x07京市\x07", "\x01\x02…\x03北", "\u200b 北京\u200b"):
        spans = tokenizer.encode([text]).spans.tolist()
        kept = [place for place, char in enumerate(text) if char in "北京市…"]
        assert sorted({place for a, b in spans for place in range(a, b) if place in kept}) == kept
        assert all(text[a] in "北京市…" and text[b - 1] in "北京市…" for a, b in spans if a < b), spans


def test_a_character_and_its_marks_are_one(xlmr: Path) -> None:
    # The library gives the second piece of "㎡" with an accent the accent's place alone.
    spans = load_tokenizer(xlmr).encode(["北㎡\u0301北"]).spans.tolist()
    assert [span for span in spans if span[0] == 1] == [[1, 3], [1, 3]] and spans[-1] == [3, 4]


#: What is rare in texts and hard in tokenizers.
ODD = list(
    "中国 ，。，…ab12 \u3000\u00a0\t\n\u200b\u200d\u0301\u3099\uff9e㎡½ﬁ①ﷺ\ufdfa\ufeff"
    "\x00\x07\x7f\x85\u2028ßİΣς각ｶﾞ👨❤\ufe0f𠮷"
)


def test_spans_of_any_text_hold_what_their_pieces_say(xlmr: Path) -> None:
    tokenizer, engine = load_tokenizer(xlmr), Engine.from_file(str(xlmr / "tokenizer.json"))
    random = Random(0)
    texts = ["".join(random.choices(ODD, k=random.randint(0, 12))) for _ in range(400)]
    encoded = tokenizer.encode(texts)
    ids = [part.tolist() for part in np.split(encoded.ids, encoded.splits[1:-1])]
    assert ids == [found.ids for found in engine.encode_batch(texts, add_special_tokens=False)]

    def read(text: str) -> str:
        return engine.normalizer.normalize_str(text).replace("▁", " ").strip()

    found = cover(tokenizer, texts, read, lambda piece: piece.replace("▁", " ").strip())
    assert not found.odd
    # The library's normaliser makes a blank of a blank with a mark.
    assert set(found.dropped) <= {*"\u200b\u200d\ufeff\x00\x07\x7f\u0301\u3099\uff9e\ufe0f"}


ADDED = [
    {"content": "[案]"},
    {"content": "ABC", "normalized": True},
    {"content": "<l>", "lstrip": True, "rstrip": True},
    {"content": "w", "single_word": True},
    {"content": "(x"},  # "（x" is none, although it is normalised to it
]


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
@pytest.mark.parametrize("steps", [[], ["NFKC"], ["NFKC", "Lowercase"]])
def test_added_tokens_leave_the_ids_around_them_the_library_s(tmp_path: Path, scheme: str, steps: list[str]) -> None:
    values = unigram_json()
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "special": False, "normalized": False}
    added = [*values["added_tokens"], *({**flags, **token, "id": 28 + i} for i, token in enumerate(ADDED))]
    splitter = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}
    normalizer = {"type": "Sequence", "normalizers": [{"type": step} for step in steps]} if steps else None
    write_unigram(tmp_path, added_tokens=added, normalizer=normalizer, pre_tokenizer=splitter)
    tokenizer, engine = load_tokenizer(tmp_path), Engine.from_file(str(tmp_path / "tokenizer.json"))
    random = Random(1)
    parts = ["我", "北京", " ", "  ", "[案]", "ABC", "abc", "ＡＢＣ", "<l>", "w", "new", "（x", "(x", "…", "a"]
    texts = ["".join(random.choices(parts, k=random.randint(0, 7))) for _ in range(300)]
    encoded = tokenizer.encode(texts)
    ids = [part.tolist() for part in np.split(encoded.ids, encoded.splits[1:-1])]
    assert ids == [found.ids for found in engine.encode_batch(texts, add_special_tokens=False)]
    text_of = np.repeat(np.arange(len(texts)), np.diff(encoded.splits))
    found = [
        (texts[text], span) for text, id, span in zip(text_of, encoded.ids, encoded.spans, strict=True) if id == 28
    ]
    assert found and all(text[a:b] == "[案]" for text, (a, b) in found)


def test_a_normalizer_that_adds_to_texts_is_refused(tmp_path: Path) -> None:
    write_unigram(tmp_path, normalizer={"type": "Prepend", "prepend": "▁"})
    with pytest.raises(DataError, match="its normalizer adds to texts"):
        load_tokenizer(tmp_path)
