"""The WordPiece tokenizer: pieces, places in the original text, and what it loads and saves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer, load_tokenizer

TOKENS = [*SPECIAL_TOKENS, "我", "爱", "new", "##s", "e", "i", "[", "]", "sep", "A", "a", "\u2028", "é"]


def make(**options: bool) -> WordPieceTokenizer:
    return WordPieceTokenizer({token: index for index, token in enumerate(TOKENS)}, **options)


def pieces(tokenizer: WordPieceTokenizer, text: str) -> list[tuple[str, int, int]]:
    encoded = tokenizer.encode([text])
    return [(TOKENS[i], int(a), int(b)) for i, (a, b) in zip(encoded.ids, encoded.spans, strict=True)]


def test_pieces_carry_their_place_in_the_original_text() -> None:
    text = " 我\u200b爱 NEWS。É"
    assert pieces(make(), text) == [
        ("我", 1, 2), ("爱", 3, 4), ("new", 5, 8), ("##s", 8, 9), ("[UNK]", 9, 10), ("e", 10, 11)
    ]  # fmt: skip


def test_spans_count_code_points_behind_astral_and_length_changing_characters() -> None:
    assert pieces(make(), "𫚭İ我") == [("[UNK]", 0, 1), ("i", 1, 2), ("我", 2, 3)]
    assert pieces(make(), "e\u0301我")[-1] == ("我", 2, 3)


def test_case_and_accents_are_kept_when_cased() -> None:
    assert pieces(make(do_lower_case=False), "Aé") == [("[UNK]", 0, 2)]
    assert [p for p, *_ in pieces(make(do_lower_case=False), "A é")] == ["A", "é"]


def test_special_tokens_written_in_a_text_are_ordinary_characters() -> None:
    assert [p for p, *_ in pieces(make(), "[SEP]")] == ["[", "sep", "]"]


def test_many_texts_are_columnar_and_empty_ones_have_no_pieces() -> None:
    encoded = make().encode(["我爱", "", "\ud800 news"])
    assert encoded.splits.tolist() == [0, 2, 2, 4]
    assert encoded.ids.dtype == np.uint16 and encoded.spans.dtype == np.int32 and encoded.splits.dtype == np.int64
    assert encoded.spans[2:].tolist() == [[2, 5], [5, 6]]
    assert make().encode([]).splits.tolist() == [0]


def test_the_fingerprint_changes_with_vocabulary_and_options_only() -> None:
    renamed = WordPieceTokenizer({token: index for index, token in enumerate([*TOKENS[:-1], "è"])})
    assert make().fingerprint == make().fingerprint
    assert len({make().fingerprint, make(do_lower_case=False).fingerprint, renamed.fingerprint}) == 3


def test_a_saved_tokenizer_loads_again_the_same(tmp_path: Path) -> None:
    for lower in (True, False):
        make(do_lower_case=lower).save(tmp_path / str(lower))
        assert load_tokenizer(tmp_path / str(lower)).fingerprint == make(do_lower_case=lower).fingerprint
        assert load_tokenizer(tmp_path / str(lower) / "vocab.txt").vocab == make().vocab


def test_case_comes_from_the_argument_then_config_then_tokenizer_json_then_true(tmp_path: Path) -> None:
    make().save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    assert load_tokenizer(tmp_path).options["do_lower_case"] is True
    saved = json.loads(make(do_lower_case=False)._tokenizer.to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved), "utf-8")
    assert load_tokenizer(tmp_path).options["do_lower_case"] is False
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}', "utf-8")
    assert load_tokenizer(tmp_path).options["do_lower_case"] is True
    assert load_tokenizer(tmp_path, do_lower_case=False).options["do_lower_case"] is False
    (tmp_path / "vocab.txt").unlink()
    assert load_tokenizer(tmp_path).vocab == load_tokenizer(tmp_path / "tokenizer.json").vocab == make().vocab


def test_the_only_vocabulary_of_a_directory_may_have_another_name_and_two_are_refused(tmp_path: Path) -> None:
    make().save(tmp_path)
    (tmp_path / "vocab.txt").rename(tmp_path / "vocab_chinese.txt")
    (tmp_path / "readme.txt").write_text("no vocabulary", "utf-8")
    assert load_tokenizer(tmp_path).vocab == make().vocab
    (tmp_path / "old_vocab.txt").write_text("[PAD]\n", "utf-8")
    with pytest.raises(DataError, match=r"several vocabularies \(old_vocab.txt, vocab_chinese.txt\); call the right"):
        load_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path / "vocab_chinese.txt").vocab == make().vocab
    # The standard names need no search.
    (tmp_path / "tokenizer.json").write_text(make()._tokenizer.to_str(), "utf-8")
    assert load_tokenizer(tmp_path).vocab == make().vocab
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n", "utf-8")
    assert load_tokenizer(tmp_path).vocab_size == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"\n\n", "empty file"),
        (b"[PAD]\n[UNK]\nx\n", r"lacks \[CLS\], \[SEP\]"),
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\n我\n我\n".encode(), r"1 duplicate lines, the first is '我' \(lines 5 and 6\)"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_useless_vocabulary_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    for path in (tmp_path, tmp_path / "vocab.txt"):
        with pytest.raises(DataError, match=message):
            load_tokenizer(path)


def test_a_place_without_a_vocabulary_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither vocab.txt nor tokenizer.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(DataError, match="no such file or directory"):
        load_tokenizer(tmp_path / "nowhere")
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {}}}', "utf-8")
    with pytest.raises(DataError, match="a BPE tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"[PAD]": "0"}}}', "utf-8")
    with pytest.raises(DataError, match="ids that are no integers"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ', "utf-8")
    with pytest.raises(DataError, match="not readable as JSON"):
        load_tokenizer(tmp_path)


def test_a_switch_that_is_no_boolean_is_refused(tmp_path: Path) -> None:
    make().save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": "false"}', "utf-8")
    with pytest.raises(DataError, match="must be true or false"):
        load_tokenizer(tmp_path)


@pytest.mark.parity
@pytest.mark.realdata
@pytest.mark.parametrize("lower", [True, False])
def test_transformers_loads_what_we_save_and_gives_the_same_ids(tmp_path: Path, data_dir: Path, lower: bool) -> None:
    transformers = pytest.importorskip("transformers")
    ours = load_tokenizer(data_dir / "vocab" / "bert-base-chinese-vocab.txt", do_lower_case=lower)
    ours.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', "utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    document = json.loads((data_dir / "cmrc2018" / "cmrc2018_trial.json").read_text("utf-8"))
    texts = [paragraph["context"] for article in document["data"] for paragraph in article["paragraphs"]]
    texts += ["İstanbul Ångström 한국어 e\u0301 ～11 ￥5", ""]
    encoded = ours.encode(texts)
    expected = theirs(texts, add_special_tokens=False)["input_ids"]
    for index, ids in enumerate(expected):
        assert encoded.ids[encoded.splits[index] : encoded.splits[index + 1]].tolist() == ids
