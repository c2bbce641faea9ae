"""A tokenizer without the pieces that texts do not need cuts those texts as before, here and in transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.tokenizers.base import Tokenizer, load_tokenizer
from preprocess.tokenizers.wordpiece import WordPieceTokenizer
from tests.support.vocabularies import LINES, train_bpe, train_spiece, unigram_json, write_unigram


def pruned(tokenizer: Tokenizer, texts: list[str], directory: Path) -> tuple[Tokenizer, np.ndarray]:
    """Return the smaller tokenizer as it is read back, and the old id of each new one."""
    ids = sorted(tokenizer.needed(texts))
    tokenizer.restricted(ids).save(directory)
    return load_tokenizer(directory), np.array(ids)


def check_alike(before: Tokenizer, after: Tokenizer, back: np.ndarray, texts: list[str]) -> None:
    old, new = before.encode(texts), after.encode(texts)
    np.testing.assert_array_equal(back[new.ids], old.ids)
    np.testing.assert_array_equal(new.spans, old.spans)
    np.testing.assert_array_equal(new.splits, old.splits)
    assert {role: before.tokens[id] for role, id in before.special_ids.items()} == {
        role: after.tokens[id] for role, id in after.special_ids.items()
    }
    assert after.vocab_size == len(back) < before.vocab_size


def test_unigram_keeps_what_texts_and_their_characters_need(tmp_path: Path) -> None:
    before = load_tokenizer(write_unigram(tmp_path / "before"))
    texts = ["我爱北京", "new 北京。"]
    after, back = pruned(before, texts, tmp_path / "after")
    check_alike(before, after, back, texts)
    kept = set(after.tokens)
    assert {"<s>", "<pad>", "</s>", "<unk>", "<mask>", "我爱", "我", "爱", "京"} <= kept
    assert not {"ガ", "fi", "S", "▁a"} & kept
    # New texts of known characters have nothing unknown; other characters have.
    unknown = after.special_ids["unk"]
    assert unknown not in after.encode(["京爱我。"]).ids
    assert unknown in after.encode(["2"]).ids and before.special_ids["unk"] not in before.encode(["2"]).ids


def test_unknown_characters_cost_what_they_did(tmp_path: Path) -> None:
    """The library counts that cost from the least likely piece, which no text may use."""
    values = unigram_json()
    vocab = [piece for piece in values["model"]["vocab"] if piece[0] not in ("北", "京")]
    # "北京" is 28 below the rest: cheaper than two unknown characters only if those cost what they did.
    vocab = [["北京", -28.0] if token == "北京" else [token, score] for token, score in vocab]
    vocab[-1:-1] = [["q", -40.0]]
    added = [
        {**entry, "id": len(vocab) - 1} if entry["content"] == "<mask>" else entry for entry in values["added_tokens"]
    ]
    model = {**values["model"], "vocab": vocab}
    before = load_tokenizer(write_unigram(tmp_path / "before", model=model, added_tokens=added))
    texts = ["北京我"]
    after, back = pruned(before, texts, tmp_path / "after")
    assert "q" in after.tokens
    check_alike(before, after, back, texts)


def test_transformers_puts_the_new_ids_of_special_tokens_around_texts(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    before = load_tokenizer(write_unigram(tmp_path / "before"))
    after, _ = pruned(before, ["我爱北京"], tmp_path / "after")
    own = transformers.AutoTokenizer.from_pretrained(tmp_path / "after")
    ids = own("我爱北京")["input_ids"]
    special = after.special_ids
    assert ids == [special["cls"], *after.encode(["我爱北京"]).ids.tolist(), special["sep"]]
    assert own.mask_token_id == special["mask"] == after.vocab_size - 1


@pytest.mark.parametrize("program", ["xlnet", "albert", "xlmr"])
def test_sentencepiece_models_lose_what_texts_do_not_need(program: str, tmp_path: Path) -> None:
    before = load_tokenizer(train_spiece(tmp_path / "before", program))
    texts = [LINES[0], LINES[4]]
    after, back = pruned(before, texts, tmp_path / "after")
    check_alike(before, after, back, texts)


def test_wordpiece_keeps_unknown_words_unknown(tmp_path: Path) -> None:
    """Without "ab" the word "abc" would become "a" and "##bc"."""
    words = ["ab", "a", "##bc", "d", "##d", "北", "京", "x"]
    before = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", *words])
    texts = ["abc 北", "ad", "x##bc a", "xbc"]
    assert before.special_ids["unk"] in before.encode(texts[:1]).ids
    after, back = pruned(before, texts, tmp_path)
    check_alike(before, after, back, texts)
    assert "ab" in after.tokens and not {"京", "[unused1]"} & {*after.tokens}


def test_pieces_that_are_made_of_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="BPE tokenizer, whose pieces are made of each other"):
        load_tokenizer(train_bpe(tmp_path)).needed(["a"])


def test_tokens_that_were_added_stay_with_their_flags(tmp_path: Path) -> None:
    values = unigram_json()
    n = len(values["model"]["vocab"])
    token = {"id": n, "content": "[题]", "single_word": False, "lstrip": False, "rstrip": False}
    added = [*values["added_tokens"], {**token, "normalized": False, "special": False}]
    before = load_tokenizer(write_unigram(tmp_path / "before", added_tokens=added))
    after, back = pruned(before, ["北京[题]我"], tmp_path / "after")
    check_alike(before, after, back, ["北京[题]我", "[题]"])
    saved = json.loads((tmp_path / "after" / "tokenizer.json").read_text(encoding="utf-8"))
    assert saved["added_tokens"][-1] == {**added[-1], "id": after.vocab_size - 1}
