"""Tokens that were added to a vocabulary are found as transformers finds them, in every layout of files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from preprocess.base.errors import DataError
from preprocess.tokenizers.added import AddedToken
from preprocess.tokenizers.base import load_tokenizer
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer

TOKENS = [*SPECIAL_TOKENS, "[MASK]", *"他说在那方地名里。[]ab中", "##b", "##a", "q", "##q"]
N = len(TOKENS)


def make(*added: AddedToken, **options: Any) -> WordPieceTokenizer:
    return WordPieceTokenizer(TOKENS, added=added, **options)


def pieces(tokenizer: Any, text: str) -> list[tuple[str, int, int]]:
    """Pieces of the second of three texts."""
    encoded = tokenizer.encode(["他", text, "说"])
    part = slice(encoded.splits[1], encoded.splits[2])
    spans = encoded.spans[part].tolist()
    return [(tokenizer.tokens[i], *span) for i, span in zip(encoded.ids[part], spans, strict=True)]


def write(directory: Path, **files: Any) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "vocab.txt").write_text("\n".join(TOKENS), "utf-8")
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return directory


def test_an_added_token_is_one_piece_with_its_place_in_the_text() -> None:
    tokenizer = make(AddedToken("“", N), AddedToken("”", N + 1), AddedToken("[地名]", N + 2))
    assert pieces(tokenizer, "他说“[地名]在那方”。") == [
        ("他", 0, 1), ("说", 1, 2), ("“", 2, 3), ("[地名]", 3, 7), ("在", 7, 8), ("那", 8, 9), ("方", 9, 10),
        ("”", 10, 11), ("。", 11, 12),
    ]  # fmt: skip
    assert tokenizer.vocab_size == N + 3


def test_the_longest_token_wins_and_none_reaches_over_an_edge_of_a_text() -> None:
    tokenizer = make(AddedToken("地", N), AddedToken("地名里", N + 1), AddedToken("\n", N + 2, normalized=False))
    assert [piece for piece, *_ in pieces(tokenizer, "地名地名里")] == ["地", "名", "地名里"]
    assert pieces(tokenizer, "地\n") == [("地", 0, 1), ("\n", 1, 2)]
    assert make(AddedToken("名他", N)).encode(["名", "他"]).ids.max() < N


def test_a_normalized_token_is_found_in_whatever_case_and_another_one_as_it_is_written() -> None:
    tokenizer = make(AddedToken("Éq", N), AddedToken("QQ", N + 1, normalized=False))
    assert pieces(tokenizer, "aE\u0301Qb") == [("a", 0, 1), ("Éq", 1, 4), ("b", 4, 5)]
    assert [piece for piece, *_ in pieces(tokenizer, "aQQqqQ")] == ["a", "QQ", "q", "##q", "##q"]


def test_a_single_word_touches_no_letter_but_may_stand_between_chinese_characters() -> None:
    tokenizer = make(
        AddedToken("ab", N, single_word=True), AddedToken("q", N + 1, single_word=True, normalized=False)
    )
    assert [id for id in tokenizer.encode(["ab 中ab中 [ab]"]).ids.tolist() if id >= N] == [N] * 3
    assert max(tokenizer.encode(["aba bab ab_ _ab"]).ids) < N
    # What is looked for in the text as published stands directly beside the character.
    assert tokenizer.encode(["q [q]"]).ids.tolist().count(N + 1) == 2
    assert N + 1 not in tokenizer.encode(["中q q1"]).ids


def test_dropped_characters_and_parts_of_syllables_do_not_disturb_the_places() -> None:
    tokenizer = make(AddedToken("\u200b", N, normalized=False), AddedToken("가", N + 1))
    assert pieces(tokenizer, "a\u200b\u200bb") == [("a", 0, 1), ("\u200b", 1, 2), ("\u200b", 2, 3), ("b", 3, 4)]
    assert pieces(tokenizer, "각a") == [("가", 0, 1), ("[UNK]", 0, 2)]
    assert pieces(make(AddedToken("\u0301", N)), "a\u0301") == [("a", 0, 1)]  # nothing is left of it to look for


def test_special_tokens_with_a_role_written_in_a_text_stay_characters() -> None:
    roles = [AddedToken(token, id, special=True, normalized=False) for id, token in enumerate(TOKENS[:5])]
    user = AddedToken("[地]", N, special=True, normalized=False)
    assert [piece for piece, *_ in pieces(make(*roles, user), "[SEP][地][MASK]")] == [
        "[", "[UNK]", "]", "[地]", "[", "[UNK]", "]"
    ]  # fmt: skip


def test_the_three_layouts_mean_the_same(tmp_path: Path) -> None:
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    plain = [{"id": N, "content": "“", **flags, "normalized": True, "special": False}]
    mark = [{"id": N + 1, "content": "<Q>", **flags, "normalized": False, "special": True}]
    by_id = {str(token.pop("id")): token for token in json.loads(json.dumps(plain + mark))}
    of_4 = write(
        tmp_path / "4", added_tokens={"“": N, "<Q>": N + 1}, special_tokens_map={"additional_special_tokens": ["<Q>"]}
    )
    of_4_later = write(tmp_path / "4b", tokenizer_config={"added_tokens_decoder": by_id})
    model = {"type": "WordPiece", "vocab": {token: id for id, token in enumerate(TOKENS)}}
    of_5 = write(
        tmp_path / "5",
        tokenizer={"model": model, "added_tokens": plain + mark},
        tokenizer_config={"extra_special_tokens": ["<Q>"]},
    )
    (of_5 / "vocab.txt").unlink()
    tokenizers = [load_tokenizer(path) for path in (of_4, of_4_later, of_5)]
    assert len({tokenizer.fingerprint for tokenizer in tokenizers}) == 1
    assert pieces(tokenizers[0], "“<Q><q>")[:2] == [("“", 0, 1), ("<Q>", 1, 4)]
    assert tokenizers[0].fingerprint != make().fingerprint
    tokenizers[0].save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").fingerprint == tokenizers[0].fingerprint


def test_special_tokens_without_an_id_get_the_next_ones_and_those_of_the_vocabulary_their_own(tmp_path: Path) -> None:
    more = {
        "extra_special_tokens": {"query": "<Q>", "part": "##b"},
        "additional_special_tokens": [{"content": "<P>"}],
    }
    tokenizer = load_tokenizer(write(tmp_path / "model", added_tokens={"“": N}, tokenizer_config=more))
    assert tokenizer.tokens[N:] == ["“", "<P>", "<Q>"]
    assert tokenizer.encode(["##b"]).ids.tolist() == [TOKENS.index("##b")]


def test_a_single_token_is_not_taken_for_a_list_of_its_characters(tmp_path: Path) -> None:
    directory = write(tmp_path / "model", special_tokens_map={"additional_special_tokens": "<Q>"})
    with pytest.raises(DataError, match="additional_special_tokens must be a list, found the string '<Q>'"):
        load_tokenizer(directory)


def test_files_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    directory = write(
        tmp_path / "model",
        added_tokens={"“": N},
        tokenizer_config={"added_tokens_decoder": {str(N): {"content": "”"}}},
    )
    with pytest.raises(
        DataError, match=rf"added_tokens.json: the added token '“' has id {N}, but '”' has it; take all"
    ):
        load_tokenizer(directory)


@pytest.mark.parity
@pytest.mark.parametrize("lower", [True, False])
def test_transformers_finds_the_same_tokens_in_random_texts(tmp_path: Path, lower: bool) -> None:
    transformers = pytest.importorskip("transformers")
    added = [
        AddedToken("方", TOKENS.index("方")), AddedToken("“", N), AddedToken("[地名]", N + 1),
        AddedToken("Ab", N + 2, single_word=True), AddedToken("地名", N + 3),
        AddedToken("É", N + 4, normalized=False), AddedToken("b a", N + 5, lstrip=True, rstrip=True),
        AddedToken("<Q>", N + 6, special=True, normalized=False),
        AddedToken("qa", N + 7, single_word=True, normalized=False),
    ]  # fmt: skip
    make(*added, do_lower_case=lower).save(tmp_path)
    ours = load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', "utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    theirs.save_pretrained(str(tmp_path / "5"))
    generator = random.Random(0)
    alphabet = [*"他说地名方中。[]aAbBqÉé\u0301 _\t<>Q", "“", "[地名]", "Ab", "b a", "<Q>", "qa", "\u200b"]
    texts = ["".join(generator.choices(alphabet, k=generator.randint(0, 12))) for _ in range(3000)]
    expected = theirs(texts, add_special_tokens=False, return_offsets_mapping=True)
    for tokenizer in (ours, load_tokenizer(tmp_path / "5")):
        encoded = tokenizer.encode(texts)
        for index, text in enumerate(texts):
            part = slice(encoded.splits[index], encoded.splits[index + 1])
            assert encoded.ids[part].tolist() == expected["input_ids"][index], text
            for id, span, their_span in zip(
                encoded.ids[part].tolist(),
                encoded.spans[part].tolist(),
                expected["offset_mapping"][index],
                strict=True,
            ):
                # lstrip and rstrip reach further there: over white space, and over the spaces that the library puts
                # around Chinese characters, which then stand for the characters themselves.
                assert tuple(span) == their_span or (
                    id == N + 5 and text[slice(*span)].lower().split() == ["b", "a"]
                ), text
