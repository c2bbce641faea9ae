"""C3's layout: `[[[line, …], [{"question", "choice": [text, …], "answer": text}, …], id], …]`.

The two published halves have the same layout and share ids: dialogues ("d") have one turn per line, which begins with
its speaker; the texts of mixed genres ("m") stand in one line. Several such files one after the other are one, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import describe
from preprocess.readers.documents import checked_id, checked_options, close_report, keep, open_document
from preprocess.readers.layouts import found_in, is_scalar
from preprocess.readers.parts import Parts, Tie, divided
from preprocess.readers.questions import MalformedError
from preprocess.readers.report import DataReport, Problem
from preprocess.text.offsets import is_unicode
from preprocess.types import Answer, Example

DIALOGUE, MIXED = "d", "m"
#: What `Example.extra` holds of a question that has one: its own id.
ID = "id"
_DOCUMENT = '[[line, …], [{"question", "choice", "answer"}, …], id]'
_TURN = re.compile(r"\s*\S{1,10}?\s*[：:]")


def read_c3(path: str | Path) -> tuple[list[Example], DataReport]:
    """Read a file of C3: an Example per question; "domain" in its `extra` is `DIALOGUE` or `MIXED`.

    Its id is made of the domain, the document's id and the question's number in the document, from 1; its group of
    the first two. Where documents have none (CLUE's test1.1.json), the id is made of the question's own, and the
    group of the first question's. Lines are joined by line breaks. A question without "answer" is unlabelled.

    Args:
        path: a file of JSON.

    Returns:
        The examples in file order and the report.

    Raises:
        DataError: if the file can't be read, has another layout, or holds no usable question.
    """
    return c3_examples(*open_document(path, "C3"))


def c3_examples(content: Any, report: DataReport) -> tuple[list[Example], DataReport]:
    """Return the questions in what was read of a file; see `read_c3`."""
    examples: dict[str, Example] = {}
    for index, document in enumerate(c3_documents(report.file, content)):
        place = f"document {index}"
        report.n_articles += 1
        if not _is_document(document):
            found = describe(document)
            report.problems.append(Problem(place, "article_malformed", found, _DOCUMENT, "document skipped"))
            continue
        report.n_contexts += _is_text(document[0])
        for number, published in enumerate(document[1], start=1):
            question = report, document, published, f"{place} question {number}", number
            keep(report, examples, partial(_example, *question))
    return close_report(report, examples, f"give a file of documents with questions, {_DOCUMENT}"), report


def c3_documents(path: str | Path, content: Any) -> list[Any]:
    """Return the documents in what was read of a file.

    Raises:
        DataError: if there is none.
    """
    documents = _documents(content)
    if not any(map(_is_document, documents)):
        found = describe(documents[0] if documents else content)
        raise DataError(f"{path}: found {found}; expected a list of C3's documents, {_DOCUMENT}")
    return documents


def holds_c3(content: Any) -> bool:
    """Whether what was read of a file is a list of C3's documents."""
    return any(map(_is_document, _documents(content)))


def _documents(content: Any) -> list[Any]:
    parts = content if isinstance(content, list) else []
    if _is_document(content):
        parts = [content]  # JSON Lines with a single line
    # Of files one after the other, each is a list of documents.
    return [document for part in parts for document in (part if _holds_documents(part) else [part])]


def _is_document(value: Any) -> bool:
    """Whether a value has a list of questions where documents have it; the rest is each question's own problem."""
    questions = isinstance(value, list) and len(value) in (2, 3) and value[1]
    return isinstance(questions, list) and all(isinstance(question, dict) for question in questions[:1])


def _holds_documents(value: Any) -> bool:
    return isinstance(value, list) and not _is_document(value) and any(map(_is_document, value))


def _is_text(lines: Any) -> bool:
    return isinstance(lines, str) or isinstance(lines, list) and all(isinstance(line, str) for line in lines)


def c3_parts(content: bytes, path: str | Path) -> Parts:
    """Divide a file by its documents, each half giving its share.

    Raises:
        DataError: if there are none.
    """
    return divided(content, path, c3_documents, _ties, _domain, "documents")


def _ties(document: Any) -> Iterator[Tie]:
    if _is_document(document):
        if len(document) > 2 and is_scalar(document[2]):
            yield _domain(document), str(document[2])
        if _is_text(document[0]):
            yield "context", "\n".join(_lines(document))


def _lines(document: list[Any]) -> list[str]:
    return [document[0]] if isinstance(document[0], str) else document[0]


def _domain(document: Any) -> str:
    """Return the half that a document belongs to; "" of what can't be read."""
    if not _is_document(document) or not _is_text(document[0]):
        return ""
    # Some texts of mixed genres begin like a turn, in their only line.
    lines = _lines(document)
    n_turns = sum(_TURN.match(line) is not None for line in lines)
    return DIALOGUE if 2 * n_turns > len(lines) > 1 else MIXED


def _example(report: DataReport, document: list[Any], published: Any, place: str, number: int) -> Example:
    if not isinstance(published, dict):
        raise MalformedError("question_malformed", place, describe(published), "an object")
    own, first = published.get(ID), document[1][0].get(ID)
    names_itself = len(document) == 2 and own is not None
    if names_itself:
        own = checked_id(own, place, "the question's id, a string")
        named = f"question-{first if is_scalar(first) else own}"
    else:
        named = checked_id(document[2] if len(document) > 2 else None, place, "the document's id, a string")
    if not _is_text(document[0]):
        raise MalformedError("context_not_text", place, describe(document[0]), "a list of lines, as texts")
    domain, context = _domain(document), "\n".join(_lines(document))
    group = f"{domain}-{named}"
    id = f"{domain}-question-{own}" if names_itself else f"{group}-{number}"
    question, answer = published.get("question"), published.get("answer")
    if not isinstance(question, str):
        raise MalformedError("question_not_text", id, found_in(published, "question"), 'a string in "question"')
    options = checked_options(report, id, published.get("choice"), "choice")
    if not is_unicode(question + context):
        raise MalformedError("lone_surrogate", id, "half a surrogate pair", "valid Unicode")
    answers: tuple[Answer, ...] = ()
    if answer is None:
        report.note("unlabelled", id)
    elif not is_scalar(answer) or str(answer) not in options:
        raise MalformedError("answer_not_an_option", id, describe(answer), 'one of the texts in "choice"')
    else:
        answers = (Answer(str(answer), kind="option"),)
    extra = {"domain": domain, ID: str(own)} if is_scalar(own) else {"domain": domain}
    return Example(id, question, context, answers, group, extra, options, labelled=answer is not None)
