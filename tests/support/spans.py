"""What is true of the spans of any tokenizer's pieces, checked against the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from preprocess.tokenizers.base import Tokenizer


@dataclass
class Cover:
    """How the spans of pieces cover the characters of texts.

    Args:
        n_pieces: pieces of all texts.
        n_empty: of these, those without a character.
        dropped: characters, white space apart, that no piece covers.
        shared: characters that several pieces cover, and how many there are of each.
        odd: pieces that the normalised characters of their span don't hold.
    """

    n_pieces: int = 0
    n_empty: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    shared: Counter[str] = field(default_factory=Counter)
    odd: list[tuple[str, str]] = field(default_factory=list)


def cover(
    tokenizer: Tokenizer, texts: Sequence[str], read: Callable[[str], str], spell: Callable[[str], str]
) -> Cover:
    """Check the spans of texts, and count what is unusual about them.

    Args:
        tokenizer: what gives the spans.
        texts: the texts.
        read: slice of a text -> what the tokenizer's pieces spell of it.
        spell: piece -> what it spells, without the white space that it counts in.

    Raises:
        AssertionError: if spans run backwards, leave the text, or begin or end with white space.
    """
    found = Cover()
    pieces = tokenizer.encode(texts)
    unknown = tokenizer.special_ids["unk"]
    for text, first, last in zip(texts, pieces.splits, pieces.splits[1:], strict=False):
        spans = pieces.spans[first:last]
        assert (np.diff(spans, axis=0) >= 0).all() and (spans[:, 0] <= spans[:, 1]).all(), text
        assert not len(spans) or (spans[0, 0] >= 0 and spans[-1, 1] <= len(text)), text
        times = np.zeros(len(text) + 1, np.int64)
        np.add.at(times, spans[:, 0], 1)
        np.add.at(times, spans[:, 1], -1)
        times = np.cumsum(times)[: len(text)]
        found.n_pieces += len(spans)
        found.n_empty += int((spans[:, 0] == spans[:, 1]).sum())
        found.dropped.update(
            char for char, n in zip(text, times.tolist(), strict=True) if n == 0 and not char.isspace()
        )
        found.shared.update(char for char, n in zip(text, times.tolist(), strict=True) if n > 1)
        for id, (start, end) in zip(pieces.ids[first:last].tolist(), spans.tolist(), strict=True):
            held, piece = text[start:end], spell(tokenizer.tokens[id])
            assert held == held.strip(), (text, held)
            alone = start == end or times[[start, end - 1]].max() == 1
            spelled = read(held)
            if id != unknown and (piece != spelled if alone else piece not in spelled):
                found.odd.append((piece, held))
    return found
