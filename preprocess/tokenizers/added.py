"""Tokens that were added to a vocabulary later: taken from the text as a whole, before it is cut into words.

The rules are those of the `tokenizers` library's `AddedVocabulary`, which transformers' AutoTokenizer uses: from left
to right, the longest token that begins at a place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from preprocess.ranges import Ints
from preprocess.tokenizers.basic import ALONE, CharacterRules, Characters

# What stands for an added token among the characters: half a surrogate pair, which no text has by then.
_STAND_IN = "\ud800"
Edges = Iterable[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token and how it is looked for, as in tokenizer.json.

    Args:
        content: as it is written.
        id: row of the embedding.
        single_word: it must not touch other letters, digits or underscores.
        lstrip: white space before it belongs to it; there is no piece for that here, so the ids are the same.
        rstrip: likewise for white space behind it.
        normalized: it is looked for in the lower-cased text (where the tokenizer does that), not as it is written.
        special: it is no text, but a mark for the model.
    """

    content: str
    id: int
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


def renumbered(tokens: Iterable[AddedToken], ids: Sequence[int]) -> list[AddedToken]:
    """Return added tokens with new ids: the place of the old one among those that stay.

    Args:
        tokens: added tokens, all of which stay.
        ids: the old ids that stay, rising.
    """
    places = {id: place for place, id in enumerate(ids)}
    return [replace(token, id=places[token.id]) for token in tokens]


class _Match(NamedTuple):
    """An added token in place of characters first to last (exclusive), from start to end of the text."""

    first: int
    last: int
    start: int
    end: int
    id: int


class WrittenTokens:
    """Finds added tokens as they are written in texts.

    Args:
        tokens: the tokens.
    """

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        """Prepare the search; see the class for the arguments."""
        self._tokens = {token.content: token for token in tokens}
        self._pattern = _pattern(self._tokens)

    def __bool__(self) -> bool:
        """Say whether there are any."""
        return self._pattern is not None

    def find(self, text: str, edges: Edges) -> Iterator[tuple[int, int, AddedToken]]:
        """Yield where each token begins and ends, and which it is, from left to right.

        Args:
            text: several texts in one.
            edges: where each begins and ends; no token reaches from one into another.
        """
        if self._pattern is None:
            return
        for low, high in edges:
            for match in self._pattern.finditer(text, low, high):
                token, (start, end) = self._tokens[match[0]], match.span()
                neighbours = text[max(low, start - 1) : start] + text[end : min(high, end + 1)]
                if not (token.single_word and any(map(_in_word, neighbours))):
                    yield start, end, token


class AddedTokens:
    """Finds added tokens among the characters of texts.

    Args:
        tokens: the tokens, by id.
        rules: what characters become.
    """

    def __init__(self, tokens: Sequence[AddedToken], rules: CharacterRules) -> None:
        """Prepare the search; see the class for the arguments."""
        self._written = WrittenTokens(token for token in tokens if not token.normalized)
        normal: dict[str, AddedToken] = {}
        for token in tokens:
            if token.normalized:
                normal.setdefault(str(rules.apply(token.content)), token)
        self._normal, self._normal_pattern = normal, _pattern(normal)

    def apply(self, text: str, starts: Ints, ends: Ints, characters: Characters) -> Characters:
        """Return the characters with stand-ins for the added tokens.

        Args:
            text: n texts in one; no token reaches from one into another.
            starts: [n], where in it each begins.
            ends: [n], where each ends.
            characters: what the characters of all become.
        """
        if self._written:
            edges = zip(starts.tolist(), ends.tolist(), strict=True)
            found = list(self._written.find(text, edges))
            first = np.searchsorted(characters.start, [start for start, _, _ in found]).tolist()
            last = np.searchsorted(characters.start, [end for _, end, _ in found]).tolist()
            rows = zip(first, last, found, strict=True)
            matches = [_Match(i, j, start, end, token.id) for i, j, (start, end, token) in rows]
            characters = _replaced(characters, matches)
        if self._normal_pattern is not None:
            first, last = np.searchsorted(characters.start, starts), np.searchsorted(characters.start, ends)
            edges = zip(first.tolist(), last.tolist(), strict=True)
            characters = _replaced(characters, list(self._find_normal(self._normal_pattern, characters, edges)))
        return characters

    def _find_normal(self, pattern: re.Pattern[str], characters: Characters, edges: Edges) -> Iterator[_Match]:
        text, kinds = str(characters), characters.kind

        def touches(place: int) -> bool:
            # A Chinese character is a word of its own, as if it had spaces around it.
            char = text[place]
            return _in_word(char) and (kinds[place] != ALONE or unicodedata.category(char) == "Pc")

        for low, high in edges:
            for match in pattern.finditer(text, low, high):
                token, (first, last) = self._normal[match[0]], match.span()
                neighbours = [place for place in (first - 1, last) if low <= place < high]
                if not (token.single_word and any(map(touches, neighbours))):
                    start, end = characters.start[first], characters.end[last - 1]
                    yield _Match(first, last, int(start), int(end), token.id)


def _pattern(contents: dict[str, AddedToken]) -> re.Pattern[str] | None:
    # Of alternatives, a pattern takes the first that fits.
    longest_first = sorted(filter(None, contents), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _in_word(char: str) -> bool:
    """Say whether a character is part of a word to `single_word`: a letter, digit, mark or underscore."""
    return char.isalnum() or unicodedata.category(char) in ("Mn", "Mc", "Me", "Pc") or char in "\u200c\u200d"


def _replaced(characters: Characters, matches: Sequence[_Match]) -> Characters:
    """Put a stand-in for each match in place of its characters (which may have been dropped before)."""
    if not matches:
        return characters
    first, last, start, end, id = np.array(matches, np.int64).T
    n = len(characters.code)
    inside = np.zeros(n + 1, np.int64)
    np.add.at(inside, first, 1)
    np.add.at(inside, last, -1)
    kept = np.flatnonzero(np.cumsum(inside[:-1]) == 0)
    # A stand-in comes before the character that its match began with.
    order = np.argsort(np.concatenate([2 * kept + 1, 2 * first]), kind="stable")
    added = characters.added if characters.added is not None else np.full(n, -1)
    columns = (
        (characters.code, np.full(len(id), ord(_STAND_IN), np.uint32)),
        (characters.kind, np.full(len(id), ALONE, np.uint8)),
        (characters.start, start),
        (characters.end, end),
        (added, id),
    )
    return Characters(*(np.concatenate([old[kept], new])[order] for old, new in columns))
