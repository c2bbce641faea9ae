"""Conversions with the way back: every derived character knows the original ones it came from."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.cache import cache_key, cached_encode
from preprocess.text.offsets import MappedConversion, MappedText, TextTransform
from preprocess.text.opencc import NO_CONVERSION, OpenCCTransform, opencc_configs, opencc_transform, opencc_version
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import Answer, Example, FeatureSet
from tasks.problems.span import SpanProblem
from tests.support.values import encode


def longest_match(phrases: Mapping[str, str]) -> Callable[[str], str]:
    """A converter as OpenCC works: from left to right, the longest phrase, else the character as it is."""
    return lambda text: "".join(new for _, new in segments(phrases, text))


def segments(phrases: Mapping[str, str], text: str) -> list[tuple[str, str]]:
    found, begin = [], 0
    while begin < len(text):
        sizes = [size for size in range(len(text) - begin, 0, -1) if text[begin : begin + size] in phrases]
        old = text[begin : begin + (sizes[0] if sizes else 1)]
        found.append((old, phrases.get(old, old)))
        begin += len(old)
    return found


def spans(mapped: MappedText) -> list[tuple[int, int]]:
    return list(zip(mapped.starts.tolist(), mapped.ends.tolist(), strict=True))


def converted(config: str, text: str) -> MappedText:
    transform = opencc_transform(config)
    assert transform is not None
    return transform(text)


def identity(n: int) -> list[tuple[int, int]]:
    return [(index, index + 1) for index in range(n)]


def test_a_conversion_that_keeps_every_place_maps_by_place() -> None:
    mapped = MappedConversion(longest_match({"國": "国", "後": "后"}))("國王與後代")
    assert mapped.text == "国王與后代" and spans(mapped) == identity(5)
    assert mapped.starts.dtype == mapped.ends.dtype == np.int32


def test_a_phrase_that_changes_length_maps_as_a_whole() -> None:
    mapped = MappedConversion(longest_match({"甲乙丙": "子丑", "丁": "寅"}))("丁甲乙丙丁")
    assert mapped.text == "寅子丑寅"
    assert spans(mapped) == [(0, 1), (1, 4), (1, 4), (4, 5)]


def test_changes_that_cancel_are_not_taken_for_the_identity() -> None:
    mapped = MappedConversion(longest_match({"甲乙丙": "子丑", "戊己": "寅卯辰"}))("甲乙丙戊己")
    assert len(mapped.text) == 5
    assert spans(mapped) == [(0, 3), (0, 3), (3, 5), (3, 5), (3, 5)]


def test_single_characters_that_cancel_are_not_taken_for_the_identity() -> None:
    mapped = MappedConversion(longest_match({"甲": "子丑", "乙": ""}))("甲乙丙")
    assert mapped.text == "子丑丙" and spans(mapped) == [(0, 1), (0, 1), (2, 3)]


def test_a_phrase_that_keeps_its_length_maps_by_place() -> None:
    # 甲 and 丙 alone would become 子 and 寅; before and after 乙 they stay.
    mapped = MappedConversion(longest_match({"甲": "子", "丙": "寅", "甲乙丙": "甲丑丙"}))("甲甲乙丙丙")
    assert mapped.text == "子甲丑丙寅" and spans(mapped) == identity(5)


def test_phrases_with_punctuation_and_long_texts_are_found() -> None:
    mapped = MappedConversion(longest_match({"甲，乙": "子", "丙": "寅卯"}))(
        "，" * 100 + "甲，乙" + "丁" * 100 + "丙"
    )
    assert mapped.text == "，" * 100 + "子" + "丁" * 100 + "寅卯"
    assert spans(mapped)[99:102] == [(99, 100), (100, 103), (103, 104)]
    assert spans(mapped)[-3:] == [(202, 203), (203, 204), (203, 204)]


def test_a_clause_that_its_units_do_not_explain_maps_as_a_whole() -> None:
    # A phrase longer than any dictionary's, and a change that cancels its loss of one character.
    mapped = MappedConversion(longest_match({"甲" * 70: "子" * 69, "丙": "寅卯"}))("甲" * 70 + "丙，丙")
    assert mapped.text == "子" * 69 + "寅卯，寅卯"
    assert spans(mapped) == [(0, 71)] * 71 + [(71, 72), (72, 73), (72, 73)]


def test_random_dictionaries_give_exactly_the_phrases_that_were_converted() -> None:
    source = random.Random(0)
    for _ in range(300):
        new = map(chr, range(0x5000, 0x6000))  # all different and none empty: no border is a coincidence
        keys = {"".join(source.choices("甲乙丙丁，", k=source.choice([1, 1, 2, 3, 4]))) for _ in range(6)}
        phrases = {key: "".join(next(new) for _ in range(source.randrange(1, 5))) for key in sorted(keys)}
        text = "".join(source.choices("甲乙丙丁戊，", k=source.randrange(40)))
        expected: list[tuple[int, int]] = []
        begin = 0
        for old, new_text in segments(phrases, text):
            if len(old) == len(new_text):
                expected += [(begin + index, begin + index + 1) for index in range(len(old))]
            else:
                expected += [(begin, begin + len(old))] * len(new_text)
            begin += len(old)
        mapped = MappedConversion(longest_match(phrases))(text)
        assert mapped.text == longest_match(phrases)(text)
        assert spans(mapped) == expected, (phrases, text)


def test_somalia_is_shorter_in_mainland_words() -> None:
    mapped = converted("tw2sp", "《蘇達爾摩》在索馬利亞。")
    assert mapped.text == "《苏达尔摩》在索马里。"
    assert spans(mapped) == [*identity(7), (7, 11), (7, 11), (7, 11), (11, 12)]
    assert spans(converted("t2s", "《蘇達爾摩》在索馬利亞。")) == identity(12)


def test_words_that_keep_their_length_map_by_place_in_mainland_words_too() -> None:
    mapped = converted("tw2sp", "歐盟的資訊")
    assert mapped.text == "欧盟的信息" and spans(mapped) == identity(5)


@pytest.mark.parametrize("text", ["", " ", "abc 123", "甲\n乙\t丙", "𠮷野家", "e\u0301", "甲\0索馬利亞\0"])
def test_odd_texts_keep_a_place_for_every_character(text: str) -> None:
    for config in opencc_configs():
        mapped = converted(config, text)
        assert len(mapped.starts) == len(mapped.ends) == len(mapped.text)
        covered = {place for start, end in spans(mapped) for place in range(start, end)}
        assert covered == set(range(len(text))), config


def test_nul_does_not_end_a_text() -> None:
    assert converted("tw2sp", "國\0索馬利亞\0國").text == "国\0索马里\0国"


def test_half_surrogate_pairs_become_replacement_characters() -> None:
    mapped = converted("t2s", "國\ud800語")
    assert mapped.text == "国\ufffd语" and spans(mapped) == identity(3)


def test_the_name_says_version_and_configuration() -> None:
    transform = opencc_transform("tw2sp")
    assert transform is not None and transform.name == f"opencc-{opencc_version()}-tw2sp"
    assert pickle.loads(pickle.dumps(transform)) == transform != opencc_transform("tw2s")
    assert [OpenCCTransform(c).simplifies for c in ("t2s", "tw2sp", "hk2s", "s2t", "s2twp")] == [1, 1, 1, 0, 0]


def test_unknown_configurations_name_the_nearest_and_all() -> None:
    with pytest.raises(DataError, match=r"configuration 'tw2ps'; did you mean 'tw2s.*known: hk2s, .*tw2t, none\)"):
        opencc_transform("tw2ps")
    for bad in ("", "/etc/passwd", "t2s.json", "T2S"):
        with pytest.raises(DataError, match="unknown OpenCC configuration"):
            opencc_transform(bad)
    assert opencc_transform(NO_CONVERSION) is None


def test_units_of_a_conversion_convert_apart() -> None:
    text = "使用者在克羅埃西亞的全球資訊網，印表機與主機板；羅勃·辛密克斯的執行長。"
    transform = OpenCCTransform("tw2sp")
    mapped = transform(text)
    edges = sorted({0, len(text), *mapped.starts.tolist(), *mapped.ends.tolist()})
    wholes = {(start, end) for start, end in spans(mapped) if end - start > 1}
    for start, end in wholes:
        first = mapped.starts.tolist().index(start)
        last = len(mapped.text) - mapped.ends.tolist()[::-1].index(end)
        assert mapped.text[first:last] == transform.convert(text[start:end]), text[start:end]
    assert [text[s:e] for s, e in pairwise(edges) if (s, e) in wholes] == [
        "使用者",
        "克羅埃西亞",
        "全球資訊網",
        "主機板",
        "羅勃·辛密克斯",
        "執行長",
    ]


# Encoding through a transform


class Shorten:
    name = "shorten"

    def __init__(self) -> None:
        self._conversion = MappedConversion(longest_match({"索馬利亞": "索马里", "國": "国"}))
        self.n_calls = 0

    def __call__(self, text: str) -> MappedText:
        self.n_calls += 1
        return self._conversion(text)


CONTEXT = "國在索馬利亞國"
EXAMPLES = [Example("1", "國", CONTEXT), Example("2", "在", CONTEXT), Example("3", "國", CONTEXT)]
TARGETS = [Answer("索馬利亞", 2, 6), Answer("國", 6, 7), Answer("馬利", 3, 5)]


def characters() -> WordPieceTokenizer:
    return WordPieceTokenizer([*SPECIAL_TOKENS, *"国在索马里"])


def same(left: FeatureSet, right: FeatureSet) -> bool:
    return left.meta == right.meta and all(
        getattr(left, name).dtype == getattr(right, name).dtype
        and np.array_equal(getattr(left, name), getattr(right, name))
        for name in FeatureSet.columns()
    )


def test_the_model_reads_the_derived_text_and_spans_stay_in_the_original() -> None:
    transform = Shorten()
    features = encode(EXAMPLES, TARGETS, characters(), transform=transform)
    assert features.input_ids[:10].tolist() == [
        2,
        4,
        3,
        4,
        5,
        6,
        7,
        8,
        4,
        3,
    ]  # [CLS] 国 [SEP] 国 在 索 马 里 国 [SEP]
    assert features.piece_spans.tolist() == [[0, 1], [1, 2], [2, 6], [2, 6], [2, 6], [6, 7]]
    assert features.piece_spans.dtype == np.int32
    # Labels: the whole run; one character behind it; a part of the run, widened to it and counted.
    assert features.targets["start"].tolist() == [5, 8, 5] and features.targets["end"].tolist() == [7, 8, 7]
    assert features.meta["counts"]["target_widened"] == 1
    assert transform.n_calls == 3, "one context and two questions are distinct"


def test_every_context_maps_through_its_own_text() -> None:
    contexts = [CONTEXT, "", "在國", "索馬利亞索馬利亞在"]
    examples = [Example(str(index), "國", context) for index, context in enumerate(contexts)]
    features = encode(examples, [None] * 4, characters(), transform=Shorten())
    assert features.piece_splits.tolist() == [0, 6, 6, 8, 15]
    assert features.piece_spans[6:].tolist() == [[0, 1], [1, 2], *[[0, 4]] * 3, *[[4, 8]] * 3, [8, 9]]


def test_an_identity_transform_changes_nothing() -> None:
    class Identity:
        name = "identity"

        def __call__(self, text: str) -> MappedText:
            start = np.arange(len(text), dtype=np.int32)
            return MappedText(text, start, start + 1)

    examples = [*EXAMPLES, Example("4", "", ""), Example("5", "在", " 里在 ")]
    targets = [*TARGETS, None, Answer("里", 1, 2)]
    plain = encode(examples, targets, characters())
    assert same(plain, encode(examples, targets, characters(), transform=None))
    assert same(plain, encode(examples, targets, characters(), transform=Identity()))
    nothing = [Example("1", "", "")]
    assert same(encode(nothing, [None], characters()), encode(nothing, [None], characters(), transform=Identity()))


def test_the_cache_keeps_transforms_apart_by_name(tmp_path: Path) -> None:
    def key(transform: TextTransform | None) -> str:
        return cache_key(SpanProblem(), EXAMPLES, TARGETS, characters(), transform=transform)

    assert key(None) == cache_key(SpanProblem(), EXAMPLES, TARGETS, characters())
    assert len({key(None), key(Shorten()), key(OpenCCTransform("t2s")), key(OpenCCTransform("tw2s"))}) == 4
    assert key(Shorten()) == key(Shorten())
    first = cached_encode(tmp_path, SpanProblem(), EXAMPLES, TARGETS, characters(), transform=Shorten())
    unused = Shorten()
    assert same(first, cached_encode(tmp_path, SpanProblem(), EXAMPLES, TARGETS, characters(), transform=unused))
    assert unused.n_calls == 0 and len(list(tmp_path.iterdir())) == 1
