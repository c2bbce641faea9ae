"""Pieces and spans equal those of Google's own code for every Unicode code point.

`google_pieces` follows `FullTokenizer` of google-research/bert `tokenization.py` line by line, with a place in the
text for each character, and uses nothing of ours. Both take categories and case from the running Python.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Iterator

import pytest

from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer

Placed = list[tuple[str, int]]
Piece = tuple[str, int, int]


def google_pieces(text: str, vocab: Iterable[str], lower: bool) -> list[Piece]:
    return [piece for word in google_words(text, lower) for piece in wordpieces(word, vocab)]


def google_words(text: str, lower: bool) -> Iterator[Placed]:
    for token in split(spaced(cleaned(text))):
        if lower:
            token = stripped(lowered(token))
        yield from split(split_at_punctuation(token))


def cleaned(text: str) -> Iterator[tuple[str, int]]:
    for place, char in enumerate(text):
        category = unicodedata.category(char)
        if char in "\t\n\r" or category == "Zs":
            yield " ", place
        elif char not in "\0\ufffd" and category not in ("Cc", "Cf"):
            yield char, place


def spaced(chars: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    for char, place in chars:
        yield from [(" ", place), (char, place), (" ", place)] if is_chinese(ord(char)) else [(char, place)]


def is_chinese(code: int) -> bool:
    return (
        (code >= 0x4E00 and code <= 0x9FFF)
        or (code >= 0x3400 and code <= 0x4DBF)
        or (code >= 0x20000 and code <= 0x2A6DF)
        or (code >= 0x2A700 and code <= 0x2B73F)
        or (code >= 0x2B740 and code <= 0x2B81F)
        or (code >= 0x2B820 and code <= 0x2CEAF)
        or (code >= 0xF900 and code <= 0xFAFF)
        or (code >= 0x2F800 and code <= 0x2FA1F)
    )


def split(chars: Iterable[tuple[str, int]]) -> Iterator[Placed]:
    """Do what str.split() does."""
    word: Placed = []
    for char, place in [*chars, (" ", -1)]:
        if not char.isspace():
            word.append((char, place))
        elif word:
            yield word
            word = []


def lowered(token: Placed) -> Placed:
    text = "".join(char for char, _ in token)
    # Lower-casing looks at the neighbours (sigma), so the whole is lowered; only İ becomes longer.
    places = [place for char, place in token for _ in char.lower()]
    return list(zip(text.lower(), places, strict=True))


def stripped(token: Placed) -> Placed:
    parts = [(part, place) for char, place in token for part in unicodedata.normalize("NFD", char)]
    for index in range(1, len(parts)):  # the canonical order of marks: an insertion sort of each run
        while index and 0 < mark_class(parts[index]) < mark_class(parts[index - 1]):
            parts[index - 1], parts[index] = parts[index], parts[index - 1]
            index -= 1
    assert "".join(char for char, _ in parts) == unicodedata.normalize("NFD", "".join(char for char, _ in token))
    return [(char, place) for char, place in parts if unicodedata.category(char) != "Mn"]


def mark_class(part: tuple[str, int]) -> int:
    return unicodedata.combining(part[0])


def split_at_punctuation(token: Placed) -> Iterator[tuple[str, int]]:
    for char, place in token:
        code = ord(char)
        ascii_marks = (33 <= code <= 47) or (58 <= code <= 64) or (91 <= code <= 96) or (123 <= code <= 126)
        if ascii_marks or unicodedata.category(char).startswith("P"):
            yield from [(" ", place), (char, place), (" ", place)]
        else:
            yield char, place


def wordpieces(word: Placed, vocab: Iterable[str]) -> list[Piece]:
    text, places = "".join(char for char, _ in word), [place for _, place in word]
    unknown = [("[UNK]", min(places), max(places) + 1)]
    pieces: list[Piece] = []
    start = 0
    while start < len(text):
        end = len(text)
        while end > start and ("##" if start else "") + text[start:end] not in vocab:
            end -= 1
        if end == start:
            return unknown
        pieces.append((("##" if start else "") + text[start:end], places[start], places[end - 1] + 1))
        start = end
    return unknown if len(text) > 200 else pieces


#: Planes in which nothing is a character: every code point is unassigned, or for private use.
EMPTY = {*range(4, 14), 15, 16}


def code_points(step: int) -> list[str]:
    """Return all code points but surrogates; of the empty planes one of `step`."""
    codes = (code for code in range(0x110000) if code >> 16 not in EMPTY or (code + 1) % step == 0)
    return [chr(code) for code in codes if not 0xD800 <= code < 0xE000]


CODE_POINTS = code_points(64)


def changes() -> dict[str, str]:
    """Return what each character that lower-casing and stripping changes becomes."""
    decomposed = zip(CODE_POINTS, (unicodedata.normalize("NFD", char.lower()) for char in CODE_POINTS), strict=True)
    marks = {char for char in CODE_POINTS if unicodedata.category(char) == "Mn"}
    return {
        char: "".join(part for part in parts if part not in marks)
        for char, parts in decomposed
        if parts != char or parts in marks
    }


CHANGES = changes()
# What characters become has a piece, so that a wrong change shows.
SINGLE = sorted({*"".join(CHANGES.values()), *map(chr, range(33, 127)), *"中国，。“Éς"})
TOKENS = [*SPECIAL_TOKENS, *SINGLE, *(f"##{char}" for char in SINGLE)]
IDS = {token: id for id, token in enumerate(TOKENS)}


def group(char: str, lower: bool) -> object:
    """Return all that Google's rules can see of a character without a piece; any other is a group of its own."""
    if char in IDS or (lower and char in CHANGES) or char in "\0\ufffd\t\n\r":
        return char
    return unicodedata.category(char), is_chinese(ord(char)), char.isspace()


@pytest.mark.parametrize("step", [64, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize(("lower", "n_groups"), [(True, 14_000), (False, 2_000)])
def test_every_code_point_alone_and_between_letters_has_googles_pieces_and_spans(
    lower: bool, n_groups: int, step: int
) -> None:
    tokenizer = WordPieceTokenizer(TOKENS, do_lower_case=lower)
    expected: dict[object, tuple[list[int], list[int]]] = {}
    wrong: list[str] = []
    every = code_points(step)
    for first in range(0, len(every), 0x8000):
        chars = every[first : first + 0x8000]
        texts = [f"{char} a{char}b 中{char}中" for char in chars]
        groups = [group(char, lower) for char in chars]
        for key, text in zip(groups, texts, strict=True):
            if key not in expected:
                pieces = google_pieces(text, IDS, lower)
                places = [place for _, *span in pieces for place in span]
                expected[key] = [IDS[piece] for piece, *_ in pieces], places
        encoded = tokenizer.encode(texts)
        splits, ids, spans = encoded.splits.tolist(), encoded.ids.tolist(), encoded.spans.ravel().tolist()
        wrong += [
            f"U+{ord(char):04X}"
            for char, key, low, high in zip(chars, groups, splits, splits[1:], strict=False)
            if (ids[low:high], spans[2 * low : 2 * high]) != expected[key]
        ]
    assert not wrong, f"{len(wrong)} code points differ: {wrong[:20]}"
    assert len(expected) > n_groups, "most characters that change must have been looked at one by one"


# What stands beside a character may change what it becomes: sigma, marks that pile up, dropped ones, the word's end.
NASTY = [
    *"aAbΣσςİıßẞÅé가中〇，。'.·:_ \t\n\0\ufffd\u200b\u200d\u00ad\u2028\u0301\u0345\u0323\u3099\ufe0f\ue863ʰ⃝≠≮ǅΩKͅ"
]
NASTY += [
    "\U000e0100",
    "\U0002b920",
    "\U0002f868",
    "\uf900",
    "\u0378",
    "\U000f0000",
    "\U0001f469",
    "a" * 99,
    "Σ" * 101,
]


@pytest.mark.parametrize("lower", [True, False])
def test_random_texts_have_googles_pieces_and_spans(lower: bool) -> None:
    generator = random.Random(0)
    texts = ["".join(generator.choices(NASTY, k=generator.randint(0, 14))) for _ in range(4000)]
    encoded = WordPieceTokenizer(TOKENS, do_lower_case=lower).encode(texts)
    for index, text in enumerate(texts):
        part = slice(encoded.splits[index], encoded.splits[index + 1])
        found = zip(encoded.ids[part].tolist(), encoded.spans[part].tolist(), strict=True)
        assert [(TOKENS[id], *span) for id, span in found] == google_pieces(text, IDS, lower), ascii(text)
