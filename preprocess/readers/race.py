"""RACE's layout, as ExpMRC has it for C3: articles, each with lists of questions, options, answers and evidences.

`{"data": [{"id", "article", "questions": [text, …], "options": [[text, …], …], "answers": ["A", …], "evidences":
[[text, …], …]}]}`; entry n of each list is about question n, whose id is that of the article, a hyphen and n.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import describe
from preprocess.readers.documents import checked_id, checked_options, close_report, keep, open_document
from preprocess.readers.layouts import found_in
from preprocess.readers.parts import Parts, divided
from preprocess.readers.questions import MalformedError
from preprocess.readers.report import DataReport, Problem
from preprocess.text.offsets import is_unicode
from preprocess.types import Answer, Example

_LAYOUT = '{"data": [{"id", "article", "questions", "options", "answers"}]}'
#: What `Example.extra` holds: the letter of the right option, and the texts that say why, as JSON.
LETTER, EVIDENCES = "answer", "evidences"


def read_race(path: str | Path) -> tuple[list[Example], DataReport]:
    """Read a file of articles: an Example per question, with its options; a question without an answer is unlabelled.

    Args:
        path: a file of JSON, as `open_document` reads it.

    Returns:
        The examples in file order and the report.

    Raises:
        DataError: if the file can't be read, has another layout, or holds no usable question.
    """
    return race_examples(*open_document(path, "RACE"))


def race_examples(document: Any, report: DataReport) -> tuple[list[Example], DataReport]:
    """Return the questions in what was read of a file; see `read_race`."""
    examples: dict[str, Example] = {}
    for index, article in enumerate(_articles(report.file, document)):
        place = f"article {index}"
        report.n_articles += 1
        if not isinstance(article, dict) or not isinstance(article.get("questions"), list):
            found = describe(article) if not isinstance(article, dict) else found_in(article, "questions")
            expected = 'an object with a "questions" list'
            report.problems.append(Problem(place, "article_malformed", found, expected, "article skipped"))
            continue
        report.n_contexts += isinstance(article.get("article"), str)
        for number in range(len(article["questions"])):
            keep(report, examples, partial(_example, report, article, number, place))
    return close_report(report, examples, f"give {_LAYOUT}"), report


def race_parts(content: bytes, path: str | Path) -> Parts:
    """Divide a file by its articles; `DataError` if it is no such file."""
    return divided(content, path, _articles, _ties, lambda article: "")


def _articles(path: str | Path, document: Any) -> list[Any]:
    """Return the articles in what was read of a file.

    Raises:
        DataError: if there is none.
    """
    articles = document.get("data") if isinstance(document, dict) and "article" not in document else document
    if isinstance(articles, dict):
        articles = [articles]  # JSON Lines with a single line
    if not isinstance(articles, list) or not any(isinstance(one, dict) and "article" in one for one in articles):
        raise DataError(f"{path}: found {describe(document)} without articles; expected {_LAYOUT}")
    return articles


def _ties(article: Any) -> Iterator[tuple[str, str]]:
    """Yield the id and the text of an article, whatever it is."""
    for key in ("id", "article") if isinstance(article, dict) else ():
        if article.get(key) not in (None, ""):
            yield key, str(article[key])


def _example(report: DataReport, article: dict[str, Any], number: int, place: str) -> Example:
    group = checked_id(article.get("id"), f"{place} question {number}", 'the id of the article, a string, in "id"')
    id = f"{group}-{number}"
    question, context = article["questions"][number], article.get("article")
    if not isinstance(question, str):
        raise MalformedError("question_not_text", id, describe(question), 'texts in "questions"')
    if not isinstance(context, str):
        raise MalformedError("context_not_text", id, found_in(article, "article"), 'a string in "article"')
    if not (is_unicode(question) and is_unicode(context)):
        raise MalformedError("lone_surrogate", id, "half a surrogate pair", "valid Unicode")
    options = checked_options(report, id, _entry(id, article, "options", number), "options")
    letter = None if article.get("answers") is None else _entry(id, article, "answers", number)
    letters = ascii_uppercase[: len(options)]
    answers: tuple[Answer, ...] = ()
    extra = _evidences(report, id, article, number)
    if letter is None:
        report.note("unlabelled", id)
    elif not isinstance(letter, str) or len(letter) != 1 or letter not in letters:
        raise MalformedError("answer_not_an_option", id, describe(letter), f"a letter from {' '.join(letters)}")
    else:
        answers = (Answer(options[letters.index(letter)], kind="option"),)
        extra[LETTER] = letter
    return Example(id, question, context, answers, group, extra, options, labelled=letter is not None)


def _entry(id: str, article: dict[str, Any], key: str, number: int) -> Any:
    """Return what a list beside the questions says of one."""
    entries, n = article.get(key), len(article["questions"])
    if not isinstance(entries, list) or len(entries) != n:
        found = f"a list of {len(entries)}" if isinstance(entries, list) else found_in(article, key)
        raise MalformedError(f"{key}_malformed", id, found, f'a list of {n}, one for each question, in "{key}"')
    return entries[number]


def _evidences(report: DataReport, id: str, article: dict[str, Any], number: int) -> dict[str, str]:
    """Return the evidences of a question as `Example.extra` holds them, if there are any that can be used."""
    if article.get(EVIDENCES) is None:
        return {}
    entries, n = article[EVIDENCES], len(article["questions"])
    texts = entries[number] if isinstance(entries, list) and len(entries) == n else None
    if not isinstance(texts, list) or not all(isinstance(text, str) and is_unicode(text) for text in texts):
        kind, found = "evidences_malformed", describe(entries if texts is None else texts)
        expected = f'a list of texts for each of {n} questions in "{EVIDENCES}"'
        report.note(kind, id, Problem(id, kind, found, expected, "read as if they were missing"))
        return {}
    return {EVIDENCES: json.dumps(texts, ensure_ascii=False)}
