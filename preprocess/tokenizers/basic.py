"""Google BERT's basic tokenizer for whole arrays of characters: what each becomes, and which make a word together.

The rules are `BasicTokenizer` of google-research/bert `tokenization.py`, for every code point. As there, the running
Python's `unicodedata` says what a character is.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.ranges import Ints, ranges

#: What a character is to the words around it: white space ends a word, some characters are a word alone.
SPACE, ALONE, LETTER = 1, 2, 3
# Kinds that no character of the result has. Two words meet where a dropped character stood between them.
_UNKNOWN, _DROPPED, _SEVERAL = 0, 4, 5
_N_CODE_POINTS = 0x110000
# The blocks of `_is_chinese_char`. Those that Unicode has added since are letters, as in Google's code.
_CHINESE = (
    range(0x4E00, 0xA000),
    range(0x3400, 0x4DC0),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2B740),
    range(0x2B740, 0x2B820),
    range(0x2B820, 0x2CEB0),
    range(0xF900, 0xFB00),
    range(0x2F800, 0x2FA20),
)
# Dropped characters that str.lower() would let stand between a sigma and the rest of its word.
_BETWEEN_LETTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ud800-\udfff]")
_CASE_IGNORABLE = "\u200b"


@dataclass(slots=True)
class Characters:
    """What the characters of a text become: n of them, without the dropped ones.

    Args:
        code: [n], code points.
        kind: uint8 [n], `SPACE`, `ALONE` or `LETTER`.
        start: int64 [n], where in the text each comes from.
        end: int64 [n], one past that.
        added: int64 [n], the id where an added token stands, else -1; None where the text has none.
    """

    code: NDArray[np.uint32]
    kind: NDArray[np.uint8]
    start: Ints
    end: Ints
    added: Ints | None = None

    def __str__(self) -> str:
        """Return the characters as a string of length n."""
        return self.code.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def words(self) -> tuple[Ints, Ints]:
        """Return the first character and the length of every word."""
        letter = np.zeros(len(self.kind) + 2, bool)
        letter[1:-1] = self.kind == LETTER
        inside = letter[1:-1]
        first = np.flatnonzero((self.kind == ALONE) | (inside & ~letter[:-2]))
        length = np.ones(len(first), np.int64)
        of_letters = inside[first]
        length[of_letters] = np.flatnonzero(inside & ~letter[2:]) + 1 - first[of_letters]
        return first, length


class CharacterRules:
    """The basic tokenizer's rules for characters, looked up once for each that occurs.

    Args:
        lower: whether to lower-case.
        strip_accents: whether to decompose characters and drop their non-spacing marks.
        chinese_apart: whether each Chinese character is a word of its own.
    """

    def __init__(self, *, lower: bool, strip_accents: bool, chinese_apart: bool) -> None:
        """Start without any character; see the class for the arguments."""
        self._lower, self._strip_accents, self._chinese_apart = lower, strip_accents, chinese_apart
        self._kind = np.zeros(_N_CODE_POINTS, np.uint8)
        # What a character becomes; where several, the place in `_several_code` and `_several_kind` of the first.
        self._becomes = np.zeros(_N_CODE_POINTS, np.uint32)
        self._n_several = np.zeros(_N_CODE_POINTS, np.uint8)
        self._several_code = np.empty(0, np.uint32)
        self._several_kind = np.empty(0, np.uint8)
        self._learning = threading.Lock()

    def apply(self, text: str) -> Characters:
        """Return what the characters of a text become.

        Args:
            text: any string; half surrogate pairs count as U+FFFD, which is dropped.
        """
        code = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        if self._lower and "Σ" in text:
            code = code.copy()
            code[_final_sigmas(text)] = ord("ς")
        kind = self._kind[code]
        if not kind.all():
            self._learn(np.unique(code[kind == _UNKNOWN]))
            kind = self._kind[code]
        start = np.flatnonzero(kind != _DROPPED)
        if len(start) < len(code):
            code, kind = code[start], kind[start]
        becomes = self._becomes[code]
        at = np.flatnonzero(kind == _SEVERAL)
        if len(at):
            n = np.ones(len(code), np.int64)
            n[at] = self._n_several[code[at]]
            source = ranges(becomes[at].astype(np.int64), n[at])
            target = ranges((np.cumsum(n) - n)[at], n[at])
            start, kind, becomes = np.repeat(start, n), np.repeat(kind, n), np.repeat(becomes, n)
            kind[target], becomes[target] = self._several_kind[source], self._several_code[source]
        return Characters(becomes, kind, start, start + 1)

    def _learn(self, codes: NDArray[np.uint32]) -> None:
        with self._learning:
            several: list[str] = []
            place = len(self._several_code)
            kinds, becomes = np.zeros(len(codes), np.uint8), np.zeros(len(codes), np.uint32)
            for index, code in enumerate(codes.tolist()):
                result, alone = self._result(chr(code))
                if not result:
                    kinds[index] = _DROPPED
                elif len(result) == 1:
                    kinds[index], becomes[index] = ALONE if alone else _kind(result), ord(result)
                else:
                    several.append(f" {result} " if alone else result)
                    kinds[index], becomes[index] = _SEVERAL, place
                    self._n_several[code] = len(several[-1])
                    place += len(several[-1])
            more = "".join(several)
            code = np.array([ord(char) for char in more], np.uint32)
            self._several_code = np.concatenate([self._several_code, code])
            self._several_kind = np.concatenate([self._several_kind, np.array([_kind(c) for c in more], np.uint8)])
            # Last, for another thread that reads meanwhile: a known kind has all it refers to.
            self._becomes[codes] = becomes
            self._kind[codes] = kinds

    def _result(self, char: str) -> tuple[str, bool]:
        """Return what a character becomes, "" if it is dropped, and whether it is a word of its own whatever that is.

        Marks that are kept stand in the order of the text, where NFD would sort two of different classes. Unicode 14
        has 25 such marks, and no published vocabulary has one: either order is unknown.
        """
        category = unicodedata.category(char)
        if char in "\t\n\r" or category == "Zs":
            return " ", False
        if char in "\0\ufffd" or category in ("Cc", "Cf", "Cs"):
            return "", False
        alone = self._chinese_apart and any(ord(char) in block for block in _CHINESE)
        if self._lower:
            char = char.lower()
        if self._strip_accents:
            char = "".join(c for c in unicodedata.normalize("NFD", char) if unicodedata.category(c) != "Mn")
        return char, alone


def _kind(char: str) -> int:
    if char.isspace():  # Google's words are those of str.split(), so U+2028 ends one, too
        return SPACE
    # All ASCII marks count as punctuation, "$" and "^" too, which are symbols to Unicode.
    is_mark = char.isascii() and not char.isalnum()
    return ALONE if is_mark or unicodedata.category(char).startswith("P") else LETTER


def _final_sigmas(text: str) -> list[int]:
    """Return the places of each Σ that ends a word and so becomes ς, which str.lower() tells by its neighbours."""
    # İ is the only character that becomes two; to its neighbours it is a letter like i.
    lower = _BETWEEN_LETTERS.sub(_CASE_IGNORABLE, text.replace("İ", "i")).lower()
    return [match.start() for match in re.finditer("Σ", text) if lower[match.start()] == "ς"]
