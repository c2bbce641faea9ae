"""The layouts of published data files, told apart by their keys.

* SQuAD style: `{"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}`;
* original CMRC: a list of `{context_id, context_text, qas: [{query_id, query_text, answers}]}`, no answer starts;
* one question per row: a list of `{id, context, question, answers}`, as `datasets` writes them.

The items (articles, contexts, rows) may also stand one per line, as JSON Lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import describe
from preprocess.readers.report import DataReport, Problem


@dataclass(frozen=True, slots=True)
class Layout:
    """What a layout calls a question's id, its text, and its context."""

    name: str
    id_key: str
    question_key: str
    context_key: str


class Paragraph(NamedTuple):
    """A context with its questions.

    Args:
        place: where in the file it stands, in words.
        article: what the published article says beside its paragraphs.
        published: the paragraph itself; "qas" is a list.
        group: id of the article or case.
    """

    place: str
    article: Mapping[str, Any]
    published: Mapping[str, Any]
    group: str


SQUAD = Layout("SQuAD style", "id", "question", "context")
ORIGINAL = Layout("original CMRC", "query_id", "query_text", "context_text")
ROWS = Layout("one question per row", "id", "question", "context")

EXPECTED = (
    'expected the SQuAD style {"data": [{"paragraphs": [{"context", "qas"}]}]}, '
    'the original CMRC layout [{"context_text", "qas": [{"query_id", "query_text"}]}] '
    'or one question per row or line, {"id", "context", "question", "answers"}'
)
#: What published files have in these places: none of it is another key misspelt.
_KNOWN = frozenset(
    ("id", "question", "context", "answers", "text", "answer_start", "answer_starts", "qas", "paragraphs", "data")
    + ("title", "version", "is_impossible", "plausible_answers", "domain", "caseid", "casename")
    + ("query_id", "query_text", "context_id", "context_text")
)
#: The keys that tell the layouts apart.
_TELLING = ("paragraphs", "context_text", "context_id", "context", "question")
#: A damaged file can have a key of megabytes.
_LONGEST_KEY = 40
#: "answer" is that near to "answers", and "qid" to "id".
_NEAR = 0.8


def detect(path: str | Path, document: Any) -> tuple[list[Any], Layout]:
    """Return the items of a document, and their layout.

    Raises:
        DataError: if it holds none, or has another layout.
    """
    items = document.get("data") if isinstance(document, dict) else document
    if not isinstance(items, list) and _layout_of(document) is not None:
        items = [document]  # JSON Lines with a single line
    if not isinstance(items, list):
        raise DataError(f"{path}: found {_instead(document, 'data', *_TELLING)}; {EXPECTED}")
    if not items:
        raise DataError(f"{path}: no questions in it (an empty list); give a file with data")
    layouts = (layout for item in items if (layout := _layout_of(item)) is not None)
    layout = next(layouts, None)
    if layout is None:
        raise DataError(f"{path}: a list of {_instead(items[0], *_TELLING)}; {EXPECTED}")
    return items, layout


def _layout_of(item: Any) -> Layout | None:
    if not isinstance(item, dict):
        return None
    if "paragraphs" in item:
        return SQUAD
    if "context_text" in item or "context_id" in item:
        return ORIGINAL
    return ROWS if "context" in item and "question" in item else None


def paragraphs(items: list[Any], layout: Layout, report: DataReport) -> Iterator[Paragraph]:
    """Yield the paragraphs in file order; what has no "qas" list becomes a problem. Counts articles and contexts."""
    if layout is ROWS:
        yield from _rows(items, report)
        return
    for index, article in enumerate(items):
        place = f"article {index}"
        report.n_articles += 1
        published = [article] if layout is ORIGINAL else isinstance(article, dict) and article.get("paragraphs")
        if not isinstance(published, list):
            found, expected = _instead(article, "paragraphs"), 'an object with a "paragraphs" list'
            report.problems.append(Problem(place, "article_malformed", found, expected, "article skipped"))
            continue
        for number, paragraph in enumerate(published):
            if layout is SQUAD:
                place = f"article {index} paragraph {number}"
            if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
                found, expected = _instead(paragraph, "qas"), 'an object with a "qas" list'
                report.problems.append(Problem(place, "paragraph_malformed", found, expected, "paragraph skipped"))
                continue
            report.n_contexts += isinstance(paragraph.get(layout.context_key), str)
            yield Paragraph(place, article, paragraph, _group(article, f"article {index}", "id"))


def _rows(items: list[Any], report: DataReport) -> Iterator[Paragraph]:
    """Yield each row as a paragraph with one question; rows with equal contexts share the string and the group."""
    contexts: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(items, start=1):
        article = row if isinstance(row, dict) else {}
        context = article.get("context")
        published = {"context": context, "qas": [row]}
        group = f"row {number}"
        if isinstance(context, str):
            published["context"], group = contexts.setdefault(context, (context, f"context {len(contexts)}"))
        # A row's "id" is that of its question.
        yield Paragraph(f"row {number}", article, published, _group(article, group))
    report.n_articles = report.n_contexts = len(contexts)


def _group(article: Mapping[str, Any], otherwise: str, *more_keys: str) -> str:
    for key in (*more_keys, "caseid", "context_id", "title"):
        if is_scalar(article.get(key)) and article[key] != "":
            return as_text(article[key])
    return otherwise


def is_scalar(value: object) -> bool:
    """Whether a JSON value is a string or a number, which is what ids and answers may be."""
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def as_text(value: object) -> str:
    """Return a scalar as text that has a UTF-8 form."""
    return str(value).encode("utf-8", "replace").decode()


def found_in(published: Mapping[str, Any], key: str) -> str:
    """Say what an object holds under a key; if it does not have the key, which other one may be meant."""
    return describe(published.get(key)) + _hint(published, key)


def _instead(value: Any, *keys: str) -> str:
    """Say what stands where an object with one of these keys is expected."""
    hints = (_hint(value, key) for key in keys) if isinstance(value, dict) else ()
    return describe(value) + next(filter(None, hints), "")


def _hint(published: Mapping[str, Any], key: str) -> str:
    near = nearest_key(key, published) if key not in published else None
    return "" if near is None else f" (its key {near!r}: did you mean {key!r}?)"


def nearest_key(key: str, published: Mapping[str, Any]) -> str | None:
    """Return the key of an object that seems to be this one in another spelling ("Answer" for "answers"), or None."""
    folded = {_fold(name): name for name in published if name not in _KNOWN and len(name) <= _LONGEST_KEY}
    near = get_close_matches(_fold(key), folded, n=1, cutoff=_NEAR)
    return folded[near[0]] if near else None


def _fold(key: str) -> str:
    return key.casefold().replace("_", "").replace("-", "").strip()
