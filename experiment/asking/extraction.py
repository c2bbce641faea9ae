"""What of a reply is the answer: a slice of the context wherever it can be one.

In this order: the reply stands for another kind of answer (unanswerable, YES); it stands in the context as it is; it
does but for width, case, blanks and punctuation; a slice of the context is like it. A reply of which none is true is
taken as it is, which is what the official scorers would compare.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

#: Changes whenever the same reply may give another answer.
VERSION = "1"
#: Least similarity, 1 - edits / length of the reply, of a slice that is taken for the reply.
LEAST_SIMILARITY = 0.6
#: Fewer letters are like too much.
_LEAST_LETTERS = 4

How = Literal["kind", "exact", "normalised", "fuzzy", "raw", "empty"]
#: How an answer was found -> what it says of the reply.
REASONS: Mapping[How, str] = {
    "kind": "stands for another kind of answer",
    "exact": "stands in the context as it is",
    "normalised": "stands in the context but for width, case, blanks and punctuation",
    "fuzzy": "a slice of the context is like it",
    "raw": "does not stand in the context, and is scored as it is",
    "empty": "no text: there is no prediction, which counts as wrong",
}
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)|\A.*?</think(?:ing)?>", re.DOTALL)
_FENCE = re.compile(r"\A```[\w-]*\n?(.*?)\n?```\Z", re.DOTALL)
_LABEL = re.compile(r"\A\W*(?:(?:最终)?答案|回答|答|final answer|answer)\s*(?:是|为|is)?\s*[:：]\s*", re.IGNORECASE)
_QUOTES = ("“”", "‘’", "「」", "『』", "《》", '""', "''", "``", "**")
_QUOTED = re.compile(r"“([^“”]+)”|「([^「」]+)」|『([^『』]+)』|\"([^\"]+)\"|\*\*([^*]+)\*\*")
_STOPS = "。．.；;，, \n"


@dataclass(frozen=True)
class Extracted:
    """The answer that a reply gives.

    Args:
        text: the answer; None where the reply says nothing.
        how: it was found.
        char_start: first code point in the context; -1 where it has no place.
        char_end: one past the last code point; -1 likewise.
        similarity: 1 - edits / length of the reply, both normalised; 1 where nothing had to be edited.
    """

    text: str | None
    how: How
    char_start: int = -1
    char_end: int = -1
    similarity: float = 1.0


def extract(reply: str, context: str, replies: Mapping[str, str]) -> Extracted:
    """Return the answer of a reply.

    Args:
        reply: as the model wrote it.
        context: published text that the answer is to be a slice of.
        replies: reply -> text of the answer that it stands for, from the prompt.
    """
    forms = list(dict.fromkeys(form for form in _forms(reply) if form))
    if not forms:
        return Extracted(None, "empty")
    kinds = {_letters(said)[0]: text for said, text in replies.items()}
    for form in forms:
        letters = _letters(form)[0]
        if letters and letters in kinds:
            return Extracted(kinds[letters], "kind")
    for form in forms:
        start = context.find(form)
        if start >= 0:
            return Extracted(form, "exact", start, start + len(form))
    for said, text in replies.items():
        if re.match(rf"{re.escape(said)}\W", forms[0], re.IGNORECASE):
            return Extracted(text, "kind")
    return _like(forms, context) or Extracted(forms[0], "raw", similarity=0.0)


def _forms(reply: str) -> Iterator[str]:
    """Yield what may be meant to be the answer, the whole first: without thoughts, labels, quotes, explanations."""
    said = _THOUGHT.sub("", reply).strip()
    if fenced := _FENCE.match(said):
        said = fenced[1].strip()
    said = _from_json(said)
    yield from _bared(said)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if len(lines) > 1:
        labelled = [line for line in lines if _LABEL.match(line)]
        for line in (*labelled, lines[0], lines[-1]):
            yield from _bared(line)
    for quoted in _QUOTED.finditer(said):
        yield next(part for part in quoted.groups() if part)


def _bared(text: str) -> Iterator[str]:
    """Yield a text, and what is left of it without its label, its quotes and its full stop."""
    yield text
    text = _LABEL.sub("", text)
    yield text
    while len(text) > 2 and text[0] + text[-1] in _QUOTES:
        text = text[1:-1].strip()
        yield text
    bare = text.strip(_STOPS)
    yield bare
    while len(bare) > 2 and bare[0] + bare[-1] in _QUOTES:
        bare = bare[1:-1].strip(_STOPS)
        yield bare


def _from_json(said: str) -> str:
    """Return the answer of a reply that is a JSON object with one; else the reply."""
    if said.startswith("{"):
        try:
            values = json.loads(said)
        except (ValueError, RecursionError):
            return said
        for key in ("answer", "答案"):
            if isinstance(values.get(key), str):
                return str(values[key]).strip()
    return said


def _letters(text: str) -> tuple[str, list[int]]:
    """Return a text without width, case, blanks and punctuation, and the place in the text of each of its letters.

    Marks between two digits stay: "3.5" is not "35".
    """
    folded = [(c, i) for i, char in enumerate(text) for c in unicodedata.normalize("NFKC", char).casefold()]
    kept = []
    for n, (char, place) in enumerate(folded):
        between = 0 < n < len(folded) - 1 and folded[n - 1][0].isdigit() and folded[n + 1][0].isdigit()
        category = unicodedata.category(char)[0]
        if category not in "PZC" or (between and category == "P"):
            kept.append((char, place))
    return "".join(char for char, _ in kept), [place for _, place in kept]


def _like(forms: list[str], context: str) -> Extracted | None:
    """Return the slice of the context that a form is like, equal ones first; None if there is none."""
    text, places = _letters(context)
    wanted = [letters for letters in dict.fromkeys(_letters(form)[0] for form in forms) if letters]
    for letters in wanted:
        first = text.find(letters)
        if first >= 0:
            return _slice(context, places, first, first + len(letters), "normalised", 1.0)
    found = []
    for letters in wanted:
        if _LEAST_LETTERS <= len(letters) <= 2 * len(text):
            first, end, n_edits = closest_slice(letters, text)
            found.append((1 - n_edits / len(letters), first, end))
    best = max(found, key=lambda one: one[0], default=(0.0, 0, 0))
    if best[0] < LEAST_SIMILARITY or best[1] == best[2]:
        return None
    return _slice(context, places, best[1], best[2], "fuzzy", best[0])


def _slice(context: str, places: list[int], first: int, end: int, how: How, similarity: float) -> Extracted:
    start, stop = places[first], places[end - 1] + 1
    return Extracted(context[start:stop], how, start, stop, similarity)


def closest_slice(wanted: str, text: str) -> tuple[int, int, int]:
    """Return first and end of the slice of a text with the fewest edits to what is wanted, and their number.

    Edits are insertions, deletions and substitutions of characters. Of equals, the slice that ends first, and of
    those the one whose length is nearest to what is wanted.
    """
    pattern, letters = _codes(wanted), _codes(text)
    ends = _last_row(pattern, letters, np.zeros(len(letters) + 1, np.int64))
    end = int(ends.argmin())
    starts = _last_row(pattern[::-1], letters[:end][::-1], np.arange(end + 1))
    lengths = np.flatnonzero(starts == starts.min())
    length = int(lengths[np.abs(lengths - len(pattern)).argmin()])
    return end - length, end, int(ends[end])


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _last_row(pattern: NDArray[np.uint32], text: NDArray[np.uint32], row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the edits from the pattern to what ends at each place of the text, given those of an empty pattern."""
    columns = np.arange(len(text) + 1)
    for code in pattern:
        new = row + 1
        np.minimum(new[1:], row[:-1] + (text != code), out=new[1:])
        # An insertion into the text follows on the cell to the left: a running minimum instead of a loop.
        row = np.minimum.accumulate(new - columns) + columns
    return row
