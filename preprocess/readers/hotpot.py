"""HotpotQA's layout, as CAIL2020 has it: a list of questions, each with documents that are cut into sentences.

`[{"_id", "question", "context": [[title, [sentence, …]], …], "answer", "supporting_facts": [[title, number], …]}]`;
the questions may also stand one per line, as JSON Lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import describe
from preprocess.readers.documents import checked_id, close_report, keep, open_document
from preprocess.readers.layouts import found_in, is_scalar
from preprocess.readers.location import locate, location_problem
from preprocess.readers.parts import Parts, divided
from preprocess.readers.questions import MalformedError
from preprocess.readers.report import DataReport, Problem
from preprocess.text.offsets import is_unicode
from preprocess.text.sentences import Sentence
from preprocess.types import Answer, Example

_LAYOUT = '[{"_id", "question", "context": [[title, [sentence, …]], …], "answer", "supporting_facts"}]'
#: The published key of the sentences that say why, and what it is called in `Example.extra`.
FACTS = "supporting_facts"


def read_hotpot(path: str | Path, *, special: Mapping[str, str]) -> tuple[list[Example], DataReport]:
    """Read a file of questions with their documents; a document's sentences are joined without anything between them.

    An answer that is no kind of its own is a span: its first occurrence within a supporting sentence, else within the
    context. `FACTS` in an example's `extra` holds the published facts as JSON, also those about no sentence.

    Args:
        path: a file of JSON, as `open_document` reads it.
        special: answer in lower case -> kind, for the answers that are no spans.

    Returns:
        The examples in file order and the report.

    Raises:
        DataError: if the file can't be read, has another layout, or holds no usable question.
    """
    document, report = open_document(path, "HotpotQA")
    examples: dict[str, Example] = {}
    groups: dict[str, str] = {}
    for index, published in enumerate(_questions(path, document)):
        keep(report, examples, partial(_example, report, published, f"question {index}", special, groups))
    report.n_articles = report.n_contexts = len(groups)
    return close_report(report, examples, f"give {_LAYOUT}"), report


def hotpot_parts(content: bytes, path: str | Path) -> Parts:
    """Divide a file by its questions, those about one text together; `DataError` if it is no such file."""
    return divided(content, path, _questions, _ties, lambda question: "", "questions")


def _questions(path: str | Path, document: Any) -> list[Any]:
    """Return the questions in what was read of a file.

    Raises:
        DataError: if there is none.
    """
    questions = document.get("data") if isinstance(document, dict) and "_id" not in document else document
    if isinstance(questions, dict):
        questions = [questions]  # JSON Lines with a single line
    if not isinstance(questions, list) or not any(isinstance(one, dict) and "_id" in one for one in questions):
        raise DataError(f"{path}: found {describe(document)} without questions; expected {_LAYOUT}")
    return questions


def _ties(question: Any) -> Iterator[tuple[str, str]]:
    """Yield the documents of a question, whatever it is."""
    context = question.get("context") if isinstance(question, dict) else None
    if context:
        yield "context", json.dumps(context)


def _example(
    report: DataReport, published: Any, place: str, special: Mapping[str, str], groups: dict[str, str]
) -> Example:
    if not isinstance(published, dict):
        raise MalformedError("question_malformed", place, describe(published), "an object")
    id = checked_id(published.get("_id"), place, 'a string or number in "_id"')
    question, answer = published.get("question"), published.get("answer")
    if not isinstance(question, str):
        raise MalformedError("question_not_text", id, found_in(published, "question"), 'a string in "question"')
    context, sentences = _join(id, published.get("context"))
    if answer is not None and not is_scalar(answer):
        raise MalformedError("answers_malformed", id, describe(answer), 'a text in "answer"')
    if not all(map(is_unicode, (question, context, str(answer)))):
        raise MalformedError("lone_surrogate", id, "half a surrogate pair", "valid Unicode")
    group = groups.setdefault(context, f"context {len(groups)}")
    facts = _facts(report, id, published.get(FACTS), sentences)
    extra = {} if facts is None else {FACTS: json.dumps(facts, ensure_ascii=False)}
    answers: tuple[Answer, ...] = ()
    if answer is None:
        report.note("unlabelled", id)
    else:
        named = {(title, number) for title, number in facts or ()}
        supporting = [sentence for sentence in sentences if (sentence.title, sentence.number) in named]
        answers = (_locate(report, id, str(answer), context, supporting, special),)
    return Example(
        id, question, context, answers, group, extra, labelled=answer is not None, sentences=tuple(sentences)
    )


def _join(id: str, documents: Any) -> tuple[str, list[Sentence]]:
    """Return the text of all documents, and where their sentences stand in it."""
    expected = 'a list of [title, [sentence, …]] in "context"'
    if not isinstance(documents, list) or not documents:
        raise MalformedError("context_not_text", id, describe(documents), expected)
    sentences: list[Sentence] = []
    texts: list[str] = []
    end = 0
    for document in documents:
        if not _is_document(document):
            raise MalformedError("context_not_text", id, describe(document), expected)
        title, parts = document
        for number, part in enumerate(parts):
            texts.append(part)
            sentences.append(Sentence(end, end + len(part), title, number))
            end += len(part)
    return "".join(texts), sentences


def _is_document(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str) or not is_unicode(value[0]):
        return False
    return isinstance(value[1], list) and all(isinstance(part, str) for part in value[1])


def _facts(report: DataReport, id: str, published: Any, sentences: list[Sentence]) -> list[list[Any]] | None:
    """Return the facts of a question as published; None, which is noted, where there are none that can be used."""
    if published is None:
        report.note("without_facts", id)
        return None
    if not isinstance(published, list) or not all(map(is_fact, published)):
        kind, expected = "facts_malformed", f'a list of [title, number] in "{FACTS}"'
        report.note(kind, id, Problem(id, kind, describe(published), expected, "read as if they were missing"))
        return None
    known = {(sentence.title, sentence.number) for sentence in sentences}
    foreign = [fact for fact in published if tuple(fact) not in known]
    if foreign:
        kind, found = "fact_without_sentence", f"sentence {foreign[0][1]} of {foreign[0][0]!r}"
        report.note(kind, id, Problem(id, kind, found, "one of the context", "scored, and never trained on"))
    return published


def is_fact(value: Any) -> bool:
    """Whether a value is [title, number of a sentence]."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    title, number = value
    return isinstance(title, str) and is_unicode(title) and isinstance(number, int) and not isinstance(number, bool)


def _locate(
    report: DataReport,
    id: str,
    text: str,
    context: str,
    supporting: list[Sentence],
    special: Mapping[str, str],
) -> Answer:
    if text.strip().lower() in special:
        return Answer(text, kind=special[text.strip().lower()])
    places = (context.find(text, sentence.char_start, sentence.char_end) for sentence in supporting)
    stated = next((place for place in places if place >= 0), None) if text else None
    char_start, note = locate(context, text, stated, "codepoint")
    kind = note or "searched"  # no answer has a start: where it is found is a guess, better or worse
    report.note(kind, id, location_problem(id, kind, context, text, None, char_start))
    return Answer(text, char_start, char_start + len(text)) if char_start >= 0 else Answer(text)
