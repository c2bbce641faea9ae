"""The WordPiece tokenizer: pieces, places in the original text, and what it loads and saves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.tokenizers.base import load_tokenizer
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer

TOKENS = [*SPECIAL_TOKENS, "我", "爱", "new", "##s", "e", "i", "[", "]", "sep", "A", "a", "\u2028", "é"]


def make(**options: bool) -> WordPieceTokenizer:
    return WordPieceTokenizer(TOKENS, **options)


def saved(lowercase: bool = True, tokens: list[str] = TOKENS, **more: Any) -> str:
    """A tokenizer.json of transformers."""
    model = {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": {t: i for i, t in enumerate(tokens)}}
    normalizer = {"type": "BertNormalizer", "clean_text": True, "lowercase": lowercase, "strip_accents": None}
    parts = {"normalizer": normalizer, "pre_tokenizer": {"type": "BertPreTokenizer"}, "model": model}
    return json.dumps({**parts, **more})


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
    renamed = WordPieceTokenizer([*TOKENS[:-1], "è"])
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
    (tmp_path / "tokenizer.json").write_text(saved(lowercase=False), "utf-8")
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
    (tmp_path / "tokenizer.json").write_text(saved(), "utf-8")
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
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"[PAD]": "0"}}}', "utf-8")
    with pytest.raises(DataError, match=r"the id of '\[PAD\]' is '0', expected an integer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ', "utf-8")
    with pytest.raises(DataError, match="not JSON"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("key", ["do_lower_case", "strip_accents", "tokenize_chinese_chars"])
def test_a_switch_must_be_a_boolean(tmp_path: Path, key: str) -> None:
    # "false" in quotes is a true value to Python.
    make().save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({key: "false"}), "utf-8")
    with pytest.raises(DataError, match=rf"tokenizer_config.json: {key} is 'false'; it must be true or false"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "tokenizer.json").write_text(saved(lowercase=0), "utf-8")
    with pytest.raises(DataError, match="tokenizer.json: lowercase is 0; it must be true or false"):
        load_tokenizer(tmp_path)


def test_lines_may_end_as_windows_ends_them(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*TOKENS, ""]).encode())
    assert load_tokenizer(tmp_path).tokens == WordPieceTokenizer(TOKENS).tokens


def test_a_token_that_stands_twice_counts_where_it_stands_last(tmp_path: Path) -> None:
    # Baidu's ERNIE 3.0 has "$" on two lines. Ids are line numbers: without either, all later rows would be wrong.
    tokens = [*SPECIAL_TOKENS, "$", "我", "$", "爱"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), "utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode(["我$爱"]).ids.tolist() == [5, 6, 7] and tokenizer.vocab_size == 8
    tokenizer.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "vocab.txt").read_text("utf-8").split("\n")[:-1] == tokens
    assert load_tokenizer(tmp_path / "saved").fingerprint == tokenizer.fingerprint


def test_ids_that_no_token_has_stay_free(tmp_path: Path) -> None:
    # What becomes of ERNIE 3.0's vocabulary as tokenizer.json: the first line of "$" has no token any more.
    model = {"type": "WordPiece", "vocab": {**{t: i for i, t in enumerate(SPECIAL_TOKENS)}, "我": 5, "$": 6}}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}), "utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.vocab_size, tokenizer.tokens[4]) == (7, "")
    tokenizer.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again.encode(["我$"]).ids.tolist() == [5, 6] and again.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer.json": '{"model": {"type": "WordLevel", "vocab": {}}}'}, "a WordLevel"),
    ],
)
def test_another_kind_of_tokenizer_is_called_by_its_name(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, "utf-8")
    for path in (tmp_path, tmp_path / next(iter(files))):
        with pytest.raises(
            DataError, match=f"{message}.* tokenizer; WordPiece or Unigram .* or BPE is what can be read"
        ):
            load_tokenizer(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "Other"}}, "a tokenizer of type 'Other'; give the tokenizer.json of a BERT model"),
        ({"model": []}, 'no "model" in it'),
        ({"model": {"type": "WordPiece"}}, 'no "vocab" in its "model"'),
        ({"model": {"vocab": {"[PAD]": 0, "[UNK]": 0}}}, r"'\[PAD\]' and '\[UNK\]' have the same id 0"),
        ({"normalizer": {"type": "NFKC"}}, "the normalizer is 'NFKC', and only 'BertNormalizer' can be read"),
        ({"normalizer": None}, "the normalizer is None, and only 'BertNormalizer' can be read"),
        ({"pre_tokenizer": None}, "the pre_tokenizer is None, and only 'BertPreTokenizer' can be read"),
        ({"model": {"unk_token": "[MASK]", "vocab": {}}}, r"the model's unk_token is '\[MASK\]', and only '\[UNK\]'"),
        ({"normalizer": {"type": "BertNormalizer", "clean_text": False}}, "clean_text is False"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "the pre_tokenizer is 'Whitespace'"),
        ({"added_tokens": {"x": 9}}, "added_tokens must be a list, found an object"),
        ({"added_tokens": 5}, "added_tokens must be a list, found the number 5"),
        ({"post_processor": {"processors": 7}}, "processors must be a list, found the number 7"),
        ({"normalizer": ["NFKC"]}, "normalizer must be an object, found a list of 1"),
        ({"added_tokens": ["x"]}, "an added token must be an object, found the string 'x'"),
        ({"added_tokens": [{"id": 99}]}, "a token must be a string or an object with its content, found an object"),
        ({"added_tokens": [{"content": "x", "id": -1}]}, "the id of 'x' is -1"),
        ({"added_tokens": [{"content": "x", "id": True}]}, "the id of 'x' is True"),
        ({"added_tokens": [{"content": "x", "id": 99, "lstrip": "no"}]}, "lstrip is 'no'; it must be true or false"),
        ({"added_tokens": [{"content": "x", "id": 5}]}, "added token 'x' has id 5, but '爱' has it"),
        ({"added_tokens": [{"content": "爱", "id": 9}]}, "added token '爱' has id 9, but elsewhere it is 5"),
    ],
)
def test_a_tokenizer_json_that_would_be_misread_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    (tmp_path / "tokenizer.json").write_text(saved(**change), "utf-8")
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "of a BertJapaneseTokenizer, which has another program cut"),
        ({"tokenizer_class": "RoFormerTokenizerFast"}, "of a RoFormerTokenizer, which has another program cut"),
        ({"do_basic_tokenize": False}, "do_basic_tokenize is false .* only true can be read"),
    ],
)
def test_words_that_another_program_cuts_are_not_cut_by_bert_s_rules(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, "我"]), "utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)


def test_special_tokens_have_the_names_that_the_files_give_them(tmp_path: Path) -> None:
    tokens = ["<pad>", "[UNK]", "<s>", "</s>", "我", "<mask>"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), "utf-8")
    with pytest.raises(DataError, match=r"lacks \[PAD\], \[CLS\], \[SEP\]; give a BERT"):
        load_tokenizer(tmp_path)
    config = {"cls_token": "<s>", "sep_token": {"content": "</s>"}, "mask_token": "<mask>", "eos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "<pad>"}', "utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.special_ids == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 5}
    tokenizer.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").fingerprint == tokenizer.fingerprint
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": 0}', "utf-8")
    with pytest.raises(DataError, match="special_tokens_map.json: a token must be a string .* found the number 0"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "template"),
    [("BertTokenizerFast", "bert"), ("XLNetTokenizer", "xlnet"), ("MyTokenizer", None), (None, None)],
)
def test_the_class_in_the_files_names_the_template(tmp_path: Path, name: str | None, template: str | None) -> None:
    make().save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}), "utf-8")
    assert load_tokenizer(tmp_path).template == template


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
