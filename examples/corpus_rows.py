"""Lives as rows: names tagged in the layout of MSRA-NER, and pairs of questions in that of LCQMC."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

from corpus_lives import ATTRIBUTES, Attribute, Context

#: What is named -> its type in MSRA-NER; nothing else that is told has one.
_TYPES = {"person": "PER", "master": "PER", "county": "LOC", "temple": "ORG"}
_SEPARATOR = "\x02"


def tagged_rows(contexts: Iterable[Context]) -> str:
    """Return a file of characters and tags, with its header."""
    lines = ["text_a\tlabel"]
    for context in contexts:
        tags = ["O"] * len(context.text)
        for kind, start, end in context.named:
            if kind in _TYPES:
                tags[start:end] = [f"B-{_TYPES[kind]}", *[f"I-{_TYPES[kind]}"] * (end - start - 1)]
        lines.append(f"{_SEPARATOR.join(context.text)}\t{_SEPARATOR.join(tags)}")
    return "\n".join(lines) + "\n"


def question_pairs(contexts: Sequence[Context], rng: random.Random) -> str:
    """Return a file of pairs of questions about the same person; every other pair asks for one thing in two ways."""
    rows = (f"{one}\t{other}\t{label}" for one, other, label in _pairs(contexts, rng))
    return "\n".join(["text_a\ttext_b\tlabel", *rows]) + "\n"


def _pairs(contexts: Sequence[Context], rng: random.Random) -> Iterator[tuple[str, str, int]]:
    distinct: list[Attribute] = list(dict.fromkeys(ATTRIBUTES))
    for number, context in enumerate(contexts):
        first, second = rng.sample(distinct, 2)
        ways = rng.sample(first.questions, 2) if number % 2 else [rng.choice(a.questions) for a in (first, second)]
        one, other = (way.replace("P", context.title) for way in ways)
        yield one, other, number % 2
