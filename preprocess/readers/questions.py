"""One published question -> its checked parts, whichever way its answers are written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from preprocess.base.jsonfile import describe
from preprocess.readers.layouts import ROWS, Layout, Paragraph, found_in, is_scalar, nearest_key
from preprocess.readers.report import Problem
from preprocess.text.offsets import is_unicode

#: One answer as published: its text and "answer_start", or such a pair for each of its spans.
Published = tuple[Any, Any] | list[tuple[Any, Any]]


class MalformedError(Exception):
    """Carries the reason, the id (or place), what was found and what was expected of a question."""


@dataclass(slots=True)
class Question:
    """A well-formed question as published.

    Args:
        id: its id.
        text: the question.
        context: the context.
        answers: as published; None where the file has none for it: it is unlabelled.
        notes: kind of note and problem, about how the answers are written.
    """

    id: str
    text: str
    context: str
    answers: list[Published] | None
    notes: list[tuple[str, Problem | None]] = field(default_factory=list)

    @property
    def spans(self) -> list[tuple[Any, Any]]:
        """The (text, answer_start) pairs of all answers."""
        spans = [answer if isinstance(answer, list) else [answer] for answer in self.answers or ()]
        return [span for parts in spans for span in parts]


def check_question(index: int, qa: Any, paragraph: Paragraph, layout: Layout, *, several: bool = False) -> Question:
    """Return the parts of an entry of a "qas" list, or of a row; `several` as in `read_examples`.

    Raises:
        MalformedError: if it can't be used.
    """
    place = paragraph.place if layout is ROWS else f"{paragraph.place}.qas[{index}]"
    if not isinstance(qa, dict):
        raise MalformedError("question_malformed", place, describe(qa), "an object")
    id, text = qa.get(layout.id_key), qa.get(layout.question_key)
    context = paragraph.published.get(layout.context_key)
    if not is_scalar(id) or id == "":
        raise MalformedError("id_missing", place, found_in(qa, layout.id_key), f'a string in "{layout.id_key}"')
    id = str(id)
    if not is_unicode(id):
        raise MalformedError("lone_surrogate", ascii(id), "half a surrogate pair", "valid Unicode")
    if not isinstance(text, str):
        found = found_in(qa, layout.question_key)
        raise MalformedError("question_not_text", id, found, f'a string in "{layout.question_key}"')
    if not isinstance(context, str):
        found = found_in(paragraph.published, layout.context_key)
        raise MalformedError("context_not_text", id, found, f'a string in "{layout.context_key}"')
    question = Question(id, text, context, None)
    question.answers = _read_answers(question, qa, several)
    texts = [answer for answer, _ in question.spans]
    for answer in texts:
        if not is_scalar(answer):
            raise MalformedError("answers_malformed", id, describe(answer), "the text of an answer")
    if not all(is_unicode(part) for part in (text, context, *map(str, texts))):
        raise MalformedError("lone_surrogate", id, "half a surrogate pair", "valid Unicode")
    return question


def _read_answers(question: Question, qa: Mapping[str, Any], several: bool) -> list[Published] | None:
    published = qa.get("answers")
    if published is None:
        _note_key(question, "unlabelled", qa, "answers", "kept without answers", always=True)
        return None
    if isinstance(published, dict):
        return [*_read_columns(question, published)]
    if not isinstance(published, list):
        raise MalformedError("answers_malformed", question.id, describe(published), "a list of answers")
    if several and any(isinstance(answer, list) for answer in published):
        return [list(map(_pair, answer)) if isinstance(answer, list) else _pair(answer) for answer in published]
    answers = list(map(_pair, published))
    if answers and answers[0][1] is None:
        if isinstance(published[0], dict):
            remedy = "read as if there were no start"
            _note_key(question, "answer_start_misspelt", published[0], "answer_start", remedy)
        answers = _with_starts_beside(question, answers, qa)
    return [*answers]


def _pair(answer: Any) -> tuple[Any, Any]:
    # The original layout has bare texts (or numbers), the SQuAD style objects.
    return (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (answer, None)


def _read_columns(question: Question, columns: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Read {"text": [...], "answer_start": [...]}, the way `datasets` writes answers."""
    texts, starts = columns.get("text"), columns.get("answer_start")
    if not isinstance(texts, list) or not (starts is None or isinstance(starts, list) and len(starts) == len(texts)):
        expected = 'a list of answers, or an object of lists of equal length in "text" and "answer_start"'
        raise MalformedError("answers_malformed", question.id, describe(columns), expected)
    return list(zip(texts, starts or [None] * len(texts), strict=True))


def _with_starts_beside(
    question: Question, answers: list[tuple[Any, Any]], qa: Mapping[str, Any]
) -> list[tuple[Any, Any]]:
    """Take the starts from a list beside "answers", which PaddleNLP's and PyText's readers have."""
    key = next((key for key in ("answer_starts", "answer_start") if qa.get(key) is not None), None)
    if key is None:
        return answers
    starts = qa[key]
    if not isinstance(starts, list) or len(starts) != len(answers):
        found, expected = f'{describe(starts)} in "{key}"', f"a list of {len(answers)}, one start per answer"
        problem = Problem(question.id, "answer_starts_malformed", found, expected, "read as if there were no starts")
        question.notes.append((problem.kind, problem))
        return answers
    question.notes += [("answer_starts_beside", None)] * len(answers)
    return [(text, beside if start is None else start) for (text, start), beside in zip(answers, starts, strict=True)]


def _note_key(
    question: Question, kind: str, published: Mapping[str, Any], key: str, remedy: str, *, always: bool = False
) -> None:
    """Note that a key is missing, in words where another one seems to be meant; else only if `always`."""
    if key not in published and nearest_key(key, published) is not None:
        problem = Problem(question.id, kind, found_in(published, key), f'"{key}"', remedy)
        question.notes.append((kind, problem))
    elif always:
        question.notes.append((kind, None))
