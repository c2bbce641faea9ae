"""Which pieces of a window are hidden, whole words at a time, and what stands in their place.

The rules are `create_masked_lm_predictions` of google-research/bert's create_pretraining_data.py with
do_whole_word_mask, as the authors of BERT-wwm used them with Chinese words (Cui et al. 2021), and MacBERT's (Cui et
al. 2020, section 3.2): runs of words, and similar words instead of [MASK].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.ranges import Ints
from preprocess.readers.lines import read_lines
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import NO_TARGET, Pieces

#: Chance of hiding a run of 1, 2, … words: whole words; and MacBERT's, from single words to four in a row.
WORD, NGRAM = (1.0,), (0.4, 0.3, 0.2, 0.1)
#: Of the hidden pieces, those that are replaced, and those that stay, which the model can't know; the rest is random.
REPLACED, KEPT = 0.8, 0.1
#: The ids of a word's pieces -> those of similar words with as many pieces.
Similar = Mapping[tuple[int, ...], tuple[tuple[int, ...], ...]]


@dataclass(frozen=True)
class Masking:
    """How pieces are hidden.

    Args:
        mask_id: id of the piece that stands for a hidden one.
        random_ids: int64 [n], the pieces that a random one is drawn from.
        share: of a window's tokens that are hidden, special ones counted, as in the original.
        most: pieces hidden in a window, at most.
        runs: chance of hiding a run of 1, 2, … words at once; they sum to 1.
        similar: what replaces a word instead of `mask_id`; a word that is not in it is replaced by random pieces.
            None for `mask_id`.
    """

    mask_id: int
    random_ids: Ints
    share: float = 0.15
    most: int = 77
    runs: tuple[float, ...] = WORD
    similar: Similar | None = None

    def n_hidden(self, n_tokens: int) -> int:
        """Return how many pieces of a window of so many tokens are hidden, if its words allow it."""
        return min(self.most, max(1, round(n_tokens * self.share)))

    def draw(self, ids: Ints, words: Ints, n_tokens: int, random: np.random.Generator) -> tuple[Ints, Ints]:
        """Draw what is hidden of a window.

        Args:
            ids: int [L], its pieces, special ones and padding among them.
            words: int [L], the number of the word that each belongs to; NO_TARGET for what is never hidden.
            n_tokens: how many of the L are no padding.
            random: is drawn from.

        Returns:
            the places that are hidden, int64 [n], in order; and what stands there instead, int64 [n].
        """
        place = np.flatnonzero(words != NO_TARGET)
        first = np.flatnonzero(np.diff(words[place], prepend=NO_TARGET))
        bounds = np.append(first, len(place)).tolist()  # of the words, in `place`
        taken = self._taken(bounds, self.n_hidden(n_tokens), random)
        if not taken:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        spans = [place[bounds[word] : bounds[word + 1]] for word in sorted(taken)]
        hidden = np.concatenate(spans)
        if self.similar is None:
            return hidden, self._instead(ids[hidden], np.full(len(hidden), self.mask_id), random)
        return hidden, np.concatenate([self._alike(ids[span], self.similar, random) for span in spans])

    def _taken(self, bounds: Sequence[int], n_left: int, random: np.random.Generator) -> set[int]:
        """Return the words that are hidden: in random order, each that still fits in."""
        taken: set[int] = set()
        n_words = len(bounds) - 1
        order = random.permutation(n_words).tolist()
        sizes = random.choice(len(self.runs), n_words, p=self.runs).tolist() if len(self.runs) > 1 else [0] * n_words
        for word, size in zip(order, sizes, strict=True):
            if n_left == 0:
                break
            end, last = word, min(word + size, n_words - 1)
            while end <= last and end not in taken and bounds[end + 1] - bounds[word] <= n_left:
                end += 1
            taken.update(range(word, end))
            n_left -= bounds[end] - bounds[word]
        return taken

    def _instead(self, ids: Ints, replaced: Ints, random: np.random.Generator) -> Ints:
        """Return what stands in place of some pieces: what replaces them, themselves, or others, as the dice fall."""
        others = self.random_ids[random.integers(len(self.random_ids), size=len(ids))]
        dice = random.random(len(ids))
        return np.where(dice < REPLACED, replaced, np.where(dice < REPLACED + KEPT, ids, others))

    def _alike(self, ids: Ints, similar: Similar, random: np.random.Generator) -> Ints:
        """Return what stands in place of the pieces of a word, for which the die is cast once."""
        die = random.random()
        known = similar.get(tuple(ids.tolist()))
        if REPLACED <= die < REPLACED + KEPT:
            return ids
        if die < REPLACED and known is not None:
            return np.array(known[random.integers(len(known))])
        return self.random_ids[random.integers(len(self.random_ids), size=len(ids))]


def word_numbers(text: str) -> NDArray[np.int32]:
    """Return the number of the word that each character belongs to, as jieba cuts the text, int32 [characters]."""
    import jieba  # its dictionary takes a second

    jieba.setLogLevel("ERROR")  # else it says on every start that it reads its dictionary
    sizes = [len(word) for word in jieba.cut(text)]
    assert sum(sizes) == len(text), "jieba's words make up the text"
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


def words_of_pieces(texts: Iterable[str], pieces: Pieces) -> NDArray[np.int32]:
    """Return the number of the word that each piece belongs to, in its text, int32 [P].

    A word is what jieba cuts out; words that share a piece are one.

    Args:
        texts: n texts.
        pieces: theirs, with their spans.
    """
    numbers = [np.empty(0, np.int32)]
    for text, begin, end in zip(texts, pieces.splits[:-1], pieces.splits[1:], strict=True):
        if begin == end:
            continue
        of_character = word_numbers(text)
        starts, ends = pieces.spans[begin:end].T
        last = len(of_character) - 1
        # A piece without a character of its own (white space before a word) is the next character's.
        first_word = of_character[np.minimum(starts, last)]
        last_word = of_character[np.minimum(np.maximum(ends - 1, starts), last)]
        new = first_word[1:] != last_word[:-1]
        numbers.append(np.concatenate([[0], np.cumsum(new)]).astype(np.int32))
    return np.concatenate(numbers)


def read_similar_words(path: Path, tokenizer: Tokenizer) -> tuple[Similar, int, int]:
    """Read a table of similar words: a line per word, which comes first, with its similar words after white space.

    Args:
        path: the table, in UTF-8.
        tokenizer: makes the pieces; a word can only be replaced by one of as many pieces.

    Returns:
        the table by pieces; how many words it holds, and how many the file.

    Raises:
        DataError: if the file can't be read, or no word of it can be replaced.
    """
    rows = [(number, line.split()) for number, line in enumerate(read_lines(path)[0], 1) if line.strip()]
    for number, row in rows:
        if len(row) < 2:
            raise DataError(f"{path}: line {number} has no similar word of {row[0]!r}; give one or more behind it")
    cut = tokenizer.encode([word for _, row in rows for word in row])
    of_word = iter([tuple(ids.tolist()) for ids in np.split(cut.ids, cut.splits[1:-1])])
    table: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {}
    for _, row in rows:
        word, *others = (next(of_word) for _ in row)
        alike = tuple(other for other in others if len(other) == len(word) and other != word)
        if alike and word:
            table[word] = tuple(dict.fromkeys((*table.get(word, ()), *alike)))
    if not table:
        raise DataError(f"{path}: no word has a similar one of as many pieces; give a line for each: word similar …")
    return table, len(table), len(rows)
