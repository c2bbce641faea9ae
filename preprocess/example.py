"""Questions as published: what all readers make of a file. `preprocess.types` names them beside what they become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from preprocess.text.sentences import Sentence


@dataclass(frozen=True, slots=True)
class Answer:
    """One annotated answer.

    Args:
        text: the answer as published, never stripped or converted.
        char_start: first code point of the answer in `Example.context`; -1 where it has no known place.
        char_end: one past the last code point; -1 where it has no known place.
        kind: "span", or what the task calls its other answers ("yes", "no", "unknown").
    """

    text: str
    char_start: int = -1
    char_end: int = -1
    kind: str = "span"

    @property
    def located(self) -> bool:
        """Whether the answer has a place in the context."""
        return self.char_start >= 0


@dataclass(frozen=True, slots=True)
class Example:
    """One question about one context, as published.

    Args:
        id: question id, unique in its file.
        question: the question, unchanged.
        context: the context, unchanged; all character offsets count its code points.
        answers: all annotators' answers, in file order.
        group: id of the article or case; splits keep groups together.
        extra: further published keys that a metric needs (CJRC's "domain"); what is no text there as JSON.
        options: the answers to choose from, where the question gives them.
        labelled: whether the file says what the answers are; no answers then mean that there is none.
        sentences: those of the context, in order, where the file says which they are.
    """

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] = ()
    group: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    labelled: bool = True
    sentences: tuple[Sentence, ...] = ()
