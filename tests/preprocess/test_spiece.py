"""SentencePiece models: the ids of the programs they are from, exact spans, and the files they live in."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from preprocess.base.errors import DataError
from preprocess.tokenizers.base import Tokenizer, load_tokenizer
from tests.support.spans import cover
from tests.support.vocabularies import LINES, train_spiece

TEXTS = [
    *LINES,
    " 战国 \t 无双３  ，（1582年）？\n系列…… ",
    "𫚭战国İ e\u0301 ㎡½ ﬁ \u200b北\u200b京 \x07三 ``x'' 、12,345, 2,000,",
    "ΟΔΟΣ \u00a8 ｶﾞ <s> [SEP] <cls> ▁",
    "",
    "\u200b",
    " ",
]
#: Program -> whether its texts are lower-cased, and whether quotation marks are made of `` and ''.
CLEANED = {"xlnet": (False, True), "albert": (True, False)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small model of each program."""
    return {name: train_spiece(tmp_path_factory.mktemp(name), name) for name in ("xlnet", "albert", "xlmr")}


def clean(text: str, program: str) -> str:
    """Do with a text what XLNet's prepro_utils.py and ALBERT's tokenization.py do."""
    lower, quotes = CLEANED[program]
    text = " ".join(text.split())
    if quotes:
        text = text.replace("``", '"').replace("''", '"')
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.lower() if lower else text


def program_ids(engine: Any, text: str, program: str) -> list[int]:
    """Return a text's ids as XLNet's and ALBERT's programs have them: "12," is cut again without its comma."""
    ids = []
    for piece in engine.encode(clean(text, program), out_type=str):
        parts = [piece]
        if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
            parts = engine.encode(piece[:-1].replace("▁", ""), out_type=str)
            if piece[0] != "▁":
                parts = [parts[0].removeprefix("▁"), *parts[1:]]
            parts = [*filter(None, parts), ","]
        ids += [engine.piece_to_id(part) for part in parts]
    return ids


def pieces(tokenizer: Tokenizer, text: str) -> list[tuple[str, int, int]]:
    encoded = tokenizer.encode([text])
    return [(tokenizer.tokens[i], int(a), int(b)) for i, (a, b) in zip(encoded.ids, encoded.spans, strict=True)]


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    encoded = tokenizer.encode(texts)
    return [part.tolist() for part in np.split(encoded.ids, encoded.splits[1:-1])]


@pytest.mark.parametrize("program", CLEANED)
def test_ids_are_those_of_the_program_that_models_were_pretrained_with(models: dict[str, Path], program: str) -> None:
    engine = sentencepiece.SentencePieceProcessor(model_file=str(models[program]))
    assert ids_of(load_tokenizer(models[program]), TEXTS) == [program_ids(engine, text, program) for text in TEXTS]


def test_a_number_before_a_comma_is_cut_without_it(tmp_path: Path) -> None:
    lines = ["北 25, 15, 京 25, 15, 25,", "京 15, 25, 北 25, 15,"] * 20
    free = {"split_by_unicode_script": False, "split_by_number": False, "vocab_size": 40}
    model = train_spiece(tmp_path, "xlnet", lines, **free)
    engine, tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(model)), load_tokenizer(model)
    assert engine.encode("北 25,", out_type=str)[-1] == "▁25,"
    text = "北 25,京15, 25,"
    assert ids_of(tokenizer, [text]) == [program_ids(engine, text, "xlnet")]
    found = pieces(tokenizer, text)
    assert [text[a:b] for _, a, b in found if "," in text[a:b]] == [","] * 3
    assert "".join(text[a:b] for _, a, b in found) == text.replace(" ", "")


def test_xlm_r_ids_are_fairseq_s(models: dict[str, Path]) -> None:
    engine = sentencepiece.SentencePieceProcessor(model_file=str(models["xlmr"]))
    tokenizer = load_tokenizer(models["xlmr"].parent)
    for text, found in zip(TEXTS, ids_of(tokenizer, TEXTS), strict=True):
        assert found == [id + 1 if id else 3 for id in engine.encode(text)], text
    assert tokenizer.tokens[:5] == ["<s>", "<pad>", "</s>", "<unk>", engine.id_to_piece(3)]
    assert tokenizer.special_ids["mask"] == tokenizer.vocab_size - 1 == engine.get_piece_size() + 1


def read_by(engine: Any, cleaned: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: str(engine.normalize(cleaned(text))).replace("▁", " ").strip()


@pytest.mark.parametrize("program", ["xlnet", "albert", "xlmr"])
def test_pieces_hold_what_their_spans_do(models: dict[str, Path], program: str) -> None:
    engine = sentencepiece.SentencePieceProcessor(model_file=str(models[program]))
    read = read_by(engine, lambda text: clean(text, program) if program in CLEANED else text)
    found = cover(load_tokenizer(models[program]), TEXTS, read, lambda piece: piece.replace("▁", " ").strip())
    # Zero width spaces and control characters are dropped, and accents by all but XLM-R's; "▁" is white space.
    assert set(found.dropped) <= {"\u200b", "\x07", "▁", *("\u0301\u00a8\uff9e" if program in CLEANED else "")}
    assert set(found.shared) <= set("…㎡½ﬁ") and not found.odd


def test_spans_count_through_all_that_is_done_to_a_text(models: dict[str, Path]) -> None:
    text = "  ``北京''  ，e\u0301…"
    found = pieces(load_tokenizer(models["xlnet"]), text)
    assert {text[a:b] for piece, a, b in found if piece.strip("▁") == '"'} == {"``", "''"}
    assert [text[a:b] for piece, a, b in found if piece == ","] == ["，"]
    assert [(a, b) for _, a, b in found if text[a:b] == "…"] == [(len(text) - 1, len(text))] * 3
    # White space that a piece begins with is never in its span.
    assert all(text[a:b] == text[a:b].strip() for _, a, b in found)


def test_the_files_beside_a_model_say_what_is_done_to_a_text(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(models["xlnet"].read_bytes())
    before = load_tokenizer(tmp_path)
    assert before.options == {"do_lower_case": False, "keep_accents": False} and before.template == "xlnet"
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "keep_accents": True}), "utf-8"
    )
    after = load_tokenizer(tmp_path)
    assert after.options == {"do_lower_case": True, "keep_accents": True}
    assert ids_of(after, ["THE NORMANS"]) == ids_of(before, ["the normans"]) != ids_of(before, ["THE NORMANS"])
    assert load_tokenizer(tmp_path, do_lower_case=False).options["do_lower_case"] is False
    assert len({before.fingerprint, after.fingerprint, load_tokenizer(models["albert"]).fingerprint}) == 3


def test_what_xlm_r_s_class_does_not_know_is_no_option_beside_a_tokenizer_json(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """Who saves the model with BERT's tokenizer class leaves its "do_lower_case" in tokenizer_config.json."""
    (tmp_path / "sentencepiece.bpe.model").write_bytes(models["xlmr"].read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "keep_accents": False}), "utf-8"
    )
    (tmp_path / "tokenizer.json").write_text(json.dumps({"normalizer": {"type": "Precompiled"}}), "utf-8")
    found = load_tokenizer(tmp_path)
    assert found.options == {"do_lower_case": False, "keep_accents": True}
    assert found.fingerprint == load_tokenizer(models["xlmr"]).fingerprint
    assert load_tokenizer(tmp_path, do_lower_case=True).options["do_lower_case"] is True


@pytest.mark.parametrize("program", ["xlnet", "albert", "xlmr"])
def test_a_saved_tokenizer_loads_again_here_and_in_transformers(
    models: dict[str, Path], program: str, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = load_tokenizer(models[program])
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.fingerprint, again.template) == (tokenizer.fingerprint, tokenizer.template)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(LINES[3], add_special_tokens=False)["input_ids"] == ids_of(again, [LINES[3]])[0]
    assert {role: getattr(theirs, f"{role}_token_id") for role in again.special_ids} == dict(again.special_ids)


def test_special_tokens_written_in_a_text_are_ordinary_characters(models: dict[str, Path]) -> None:
    for path in models.values():
        tokenizer = load_tokenizer(path)
        special = set(tokenizer.special_ids.values()) - {tokenizer.special_ids["unk"]}
        assert not special & set(tokenizer.encode(["<s> [SEP]<cls></s><mask>[MASK]"]).ids.tolist())


def test_added_tokens_are_taken_from_the_text_as_they_are_written(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(models["xlnet"].read_bytes())
    plain = load_tokenizer(tmp_path)
    (tmp_path / "added_tokens.json").write_text(
        json.dumps({"[案]": plain.vocab_size, "[件]": plain.vocab_size + 1}), "utf-8"
    )
    tokenizer = load_tokenizer(tmp_path)
    text = " 北京[案] 三国[件]"
    found = pieces(tokenizer, text)
    assert [p for p in found if p[0] in ("[案]", "[件]")] == [("[案]", 3, 6), ("[件]", 9, 12)]
    assert "".join(text[a:b] for _, a, b in found) == "北京[案]三国[件]"
    both = tokenizer.encode(["[件]", text, "北京", text])
    assert ids_of(tokenizer, ["[件]", text, "北京", text])[1] == [tokenizer.tokens.index(p) for p, *_ in found]
    assert both.spans[both.splits[3] :].tolist() == [[a, b] for _, a, b in found]
    assert tokenizer.vocab_size == plain.vocab_size + 2
    tokenizer.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").fingerprint == tokenizer.fingerprint


def test_another_algorithm_of_sentencepiece_is_read_alike(tmp_path: Path) -> None:
    model = train_spiece(tmp_path, "xlnet", model_type="bpe")
    engine = sentencepiece.SentencePieceProcessor(model_file=str(model))
    assert ids_of(load_tokenizer(model), TEXTS) == [program_ids(engine, text, "xlnet") for text in TEXTS]


def test_white_space_behind_words_moves_no_place(tmp_path: Path) -> None:
    # "12," cut again becomes another text here; an assertion stopped the run.
    train_spiece(tmp_path, "xlnet", treat_whitespace_as_suffix=True)
    text = "人口 12,345 2,154, 万"
    spans = load_tokenizer(tmp_path).encode([text]).spans.tolist()
    assert "".join(text[a:b] for a, b in spans) == text.replace(" ", "")


def test_models_whose_ids_are_not_known_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"no model")
    with pytest.raises(DataError, match="spiece.model: not a SentencePiece model"):
        load_tokenizer(tmp_path)
    (tmp_path / "spiece.model").write_bytes(models["xlmr"].read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}), "utf-8")
    with pytest.raises(DataError, match="of the tokenizer_class 'T5Tokenizer', whose ids are not known here"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLNetTokenizer"}), "utf-8")
    with pytest.raises(DataError, match="lacks the special tokens <pad>, <cls>, <sep>"):
        load_tokenizer(tmp_path)
    with pytest.raises(DataError, match="with pieces <unk>, <s>, </s>, <sep>, <pad>.* not known here"):
        load_tokenizer(train_spiece(tmp_path / "cpm", "xlmr", control_symbols=["<sep>", "<pad>"]))
    with pytest.raises(DataError, match="cuts unknown characters into bytes"):
        load_tokenizer(train_spiece(tmp_path / "bytes", "xlmr", byte_fallback=True, vocab_size=420))
