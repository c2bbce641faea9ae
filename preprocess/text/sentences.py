"""Where the sentences of a text stand, Chinese or English."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Marks that end a sentence, with the quotes and brackets that close behind them; an English full stop does so only
#: before white space or the end, or it would divide 3.5. A line break ends one, too.
_CLOSING = "[”’\"'」』）)】》]*"
_END = re.compile(rf"(?:[。！？!?…]|\.(?={_CLOSING}(?:\s|$)))+{_CLOSING}\s*|\s*\n\s*")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a context.

    Args:
        char_start: its first code point.
        char_end: one past the last code point.
        title: of its document, where the file names that.
        number: its place among the sentences of its document, from 0.
    """

    char_start: int
    char_end: int
    title: str = ""
    number: int = 0


def split_sentences(text: str) -> tuple[Sentence, ...]:
    """Return the sentences of a text, which cover it from its first character to its last.

    White space belongs to the sentence before it, and at the very beginning to the first; what has nothing but white
    space is none.
    """
    sentences: list[Sentence] = []
    start = 0
    for end in [*(match.end() for match in _END.finditer(text)), len(text)]:
        if text[start:end].strip():
            sentences.append(Sentence(start, end, number=len(sentences)))
            start = end
    return tuple(sentences)
