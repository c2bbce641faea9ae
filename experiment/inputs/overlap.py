"""Text that two splits share, or that one file holds twice."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from preprocess.types import Example


@dataclass(frozen=True, slots=True)
class Shared:
    """A text that two splits share, or that one file holds twice.

    Args:
        exact: equal as published; else only after `normalise`.
        left: ids of the questions that have the text in the first split; of its first paragraph in the file.
        right: ids in the second split; of its other paragraphs in the file.
    """

    exact: bool
    left: tuple[str, ...]
    right: tuple[str, ...]


def normalise(texts: Iterable[str]) -> dict[str, str]:
    """Reduce texts to what is left when spelling does not count.

    That is: NFKC, lower case, without white space, punctuation (Unicode's P and ASCII's) and invisible characters
    (Unicode's Z and C).

    Args:
        texts: any strings; equal ones are worked on once.

    Returns:
        text to reduced text, "" where nothing is left.
    """
    folded = {text: unicodedata.normalize("NFKC", text).lower() for text in texts}
    characters = set().union(*folded.values()) if folded else set()
    removed = {ord(c): None for c in characters if c in string.punctuation or unicodedata.category(c)[0] in "PZC"}
    return {text: short.translate(removed) for text, short in folded.items()}


def shared(left: Sequence[Example], right: Sequence[Example]) -> dict[str, list[Shared]]:
    """Find what two splits have in common, exactly or after `normalise`.

    Texts of which nothing is left are not compared: gold files without contexts share none.

    Returns:
        "context", "question" and "question and context" to the shared texts, in the order of `left`.
    """
    reduced = _reduced([*left, *right])
    overlap: dict[str, list[Shared]] = {}
    for name in _KEYS:
        ours, theirs = _index(left, name, reduced), _index(right, name, reduced)
        overlap[name] = [_shared(ours[key], theirs[key]) for key in ours if key in theirs]
    return overlap


def duplicates(examples: Sequence[Example]) -> dict[str, list[Shared]]:
    """Find contexts that several paragraphs of a file have, and questions asked twice about one context.

    Returns:
        "context" and "question and context" to the repeated texts, in file order.
    """
    reduced = _reduced(examples)
    # The questions of one paragraph stand together; its context is no repetition of itself.
    new = [i == 0 or _paragraph(e) != _paragraph(examples[i - 1]) for i, e in enumerate(examples)]
    first_questions = [example for example, is_new in zip(examples, new, strict=True) if is_new]
    repeated: dict[str, list[Shared]] = {}
    for name, candidates in (("context", first_questions), ("question and context", examples)):
        groups = _index(candidates, name, reduced).values()
        repeated[name] = [_shared(group[:1], group[1:]) for group in groups if len(group) > 1]
    return repeated


#: One occurrence of a text: question id, and the text as published.
_Occurrence = tuple[str, tuple[str, ...]]

_KEYS = {
    "context": lambda example: (example.context,),
    "question": lambda example: (example.question,),
    "question and context": lambda example: (example.question, example.context),
}


def _reduced(examples: Iterable[Example]) -> dict[str, str]:
    return normalise({text for example in examples for text in (example.context, example.question)})


def _paragraph(example: Example) -> tuple[str, str]:
    return example.group, example.context


def _index(
    examples: Sequence[Example], name: str, reduced: Mapping[str, str]
) -> dict[tuple[str, ...], list[_Occurrence]]:
    """Return reduced text -> where it occurs."""
    index: dict[tuple[str, ...], list[_Occurrence]] = {}
    for example in examples:
        published = _KEYS[name](example)
        key = tuple(reduced[text] for text in published)
        if all(key):
            index.setdefault(key, []).append((example.id, published))
    return index


def _shared(left: Sequence[_Occurrence], right: Sequence[_Occurrence]) -> Shared:
    exact = not {text for _, text in left}.isdisjoint(text for _, text in right)
    return Shared(exact, tuple(id for id, _ in left), tuple(id for id, _ in right))
