"""Published data files -> Examples, and a report on every question.

Two layouts are told apart by their keys: the SQuAD style (`data[].paragraphs[].qas[]`) and the original CMRC
layout (a list of `{context_id, context_text, qas: [{query_id, query_text, answers}]}`, no answer starts).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from preprocess.base.errors import DataError
from preprocess.readers.report import DataReport, Problem
from preprocess.text.offsets import is_unicode, nearest_occurrence, utf16_to_codepoint
from preprocess.types import Answer, Example

OffsetUnit = Literal["codepoint", "utf16"]

#: Published keys of an article, paragraph or question that a metric or task needs.
EXTRA_KEYS = ("domain", "is_impossible")


@dataclass(frozen=True, slots=True)
class _Layout:
    name: str
    id_key: str
    question_key: str
    context_key: str


class _MalformedError(Exception):
    """Carries the reason, the id (or place), what was found and what was expected of a question."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A well-formed question as published; `answers` are (text, answer_start) pairs."""

    id: str
    text: str
    context: str
    answers: list[tuple[Any, Any]]


_SQUAD = _Layout("SQuAD style", "id", "question", "context")
_ORIGINAL = _Layout("original CMRC", "query_id", "query_text", "context_text")
_EXPECTED = (
    'expected the SQuAD style {"data": [{"paragraphs": [{"context", "qas"}]}]} '
    'or the original CMRC layout [{"context_text", "qas": [{"query_id", "query_text"}]}]'
)


def read_examples(
    path: str | Path, *, offset_unit: OffsetUnit = "codepoint", special: Mapping[str, str] | None = None
) -> tuple[list[Example], DataReport]:
    """Read a data file of either layout.

    An answer stands at its stated start, read in `offset_unit`; else at the start read in the other unit; else at
    the occurrence nearest to the stated start (no start: the first one); else it keeps its text and has no place.
    Whatever is not the first case is noted in the report.

    Args:
        path: a UTF-8 JSON file.
        offset_unit: what `answer_start` counts in this data set: code points, or UTF-16 code units (CMRC2018).
        special: answer text -> kind, for the answers of this data set that are no spans ("YES"): they are never
            searched for in the context, unless the text stands at its stated start.

    Returns:
        The examples in file order and the report.

    Raises:
        DataError: if the file can't be read, is no JSON of a known layout, or holds no usable question.
    """
    items, layout = _detect(path, _load_json(path))
    report = DataReport(file=str(path))
    examples: dict[str, Example] = {}
    for place, article, paragraph in _paragraphs(items, layout, report):
        for index, qa in enumerate(paragraph["qas"]):
            report.n_questions += 1
            try:
                question = _check_question(f"{place}.qas[{index}]", paragraph, qa, layout)
                if question.id in examples:
                    raise _MalformedError("id_duplicate", question.id, "an id that came before", "unique ids")
            except _MalformedError as malformed:
                report.drop(*malformed.args)
                continue
            _note_text(report, question)
            answers = tuple(
                _read_answer(report, question, *answer, offset_unit, special or {}) for answer in question.answers
            )
            published = {**article, **paragraph, **qa}
            extra = _read_extra(report, question.id, published)
            group = _group(article, report.n_articles - 1)
            examples[question.id] = Example(question.id, question.text, question.context, answers, group, extra)
    report.n_kept = len(examples)
    if not report.n_questions:
        seen = f"; first problem: {report.problems[0]}" if report.problems else ""
        raise DataError(
            f"{path}: no questions in it ({layout.name} layout{seen}); give a file with filled 'qas' lists"
        )
    if not examples:
        first = report.problems[0]
        raise DataError(f"{path}: none of its {report.n_questions} questions can be used; first: {first}")
    return list(examples.values()), report


def _read_extra(report: DataReport, id: str, published: Mapping[str, Any]) -> dict[str, str]:
    values = {key: published[key] for key in EXTRA_KEYS if published.get(key) is not None}
    for key, value in values.items():
        if not isinstance(value, (str, int, float)):
            problem = Problem(
                id, "extra_malformed", _describe(value), f'a text in "{key}"', "read as if it were missing"
            )
            report.note("extra_malformed", id, problem)
    return {key: _as_text(value) for key, value in values.items() if isinstance(value, (str, int, float))}


class _RepeatedKeyError(ValueError):
    """Carries the key and its two values."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; json alone would keep the last value of a repeated key: perhaps half the questions."""
    made = dict(pairs)
    if len(made) < len(pairs):
        for key, value in pairs:
            if made[key] != value:
                raise _RepeatedKeyError(key, value, made[key])
    return made


def _load_json(path: str | Path) -> Any:
    try:
        content = Path(path).read_bytes()
    except IsADirectoryError:
        raise DataError(f"{path}: is a directory; give one JSON file") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read ({error}); check the path and its permissions") from None
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unique_keys)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8 JSON") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise DataError(f"{path}: not JSON ({error.msg} at {where}); give a JSON data file") from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply; {_EXPECTED}") from None
    except _RepeatedKeyError as error:
        key, first, last = map(_describe, error.args)
        raise DataError(
            f"{path}: an object has the key {key.removeprefix('the string ')} twice, with {first} and with {last}; "
            "give each key once"
        ) from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise DataError(f"{path}: JSON that can't be read ({error}); {_EXPECTED}") from None


def _detect(path: str | Path, document: Any) -> tuple[list[Any], _Layout]:
    items = document.get("data") if isinstance(document, dict) else document
    if isinstance(items, list):
        if not items:
            raise DataError(f"{path}: no questions in it (an empty list); give a file with data")
        for item in items:
            if isinstance(item, dict) and "paragraphs" in item:
                return items, _SQUAD
            if isinstance(item, dict) and ("context_text" in item or "context_id" in item):
                return items, _ORIGINAL
        raise DataError(f"{path}: a list of {_describe(items[0])}; {_EXPECTED}")
    raise DataError(f"{path}: found {_describe(document)}; {_EXPECTED}")


def _paragraphs(
    items: list[Any], layout: _Layout, report: DataReport
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield (place, article, paragraph with a "qas" list); what is no such thing becomes a problem."""
    for index, article in enumerate(items):
        place = f"article {index}"
        report.n_articles += 1
        paragraphs = [article] if layout is _ORIGINAL else isinstance(article, dict) and article.get("paragraphs")
        if not isinstance(paragraphs, list):
            expected, found = 'an object with a "paragraphs" list', _describe(article)
            report.problems.append(Problem(place, "article_malformed", found, expected, "article skipped"))
            continue
        for number, paragraph in enumerate(paragraphs):
            if layout is _SQUAD:
                place = f"article {index} paragraph {number}"
            if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
                expected, found = 'an object with a "qas" list', _describe(paragraph)
                report.problems.append(Problem(place, "paragraph_malformed", found, expected, "paragraph skipped"))
                continue
            report.n_contexts += isinstance(paragraph.get(layout.context_key), str)
            yield place, article, paragraph


def _check_question(place: str, paragraph: dict[str, Any], qa: Any, layout: _Layout) -> _Question:
    if not isinstance(qa, dict):
        raise _MalformedError("question_malformed", place, _describe(qa), "an object")
    id, question, context = qa.get(layout.id_key), qa.get(layout.question_key), paragraph.get(layout.context_key)
    if not _is_scalar(id) or id == "":
        raise _MalformedError("id_missing", place, _describe(id), f'a string in "{layout.id_key}"')
    id = str(id)
    if not is_unicode(id):
        raise _MalformedError("lone_surrogate", ascii(id), "half a surrogate pair", "valid Unicode")
    if not isinstance(question, str):
        raise _MalformedError("question_not_text", id, _describe(question), f'a string in "{layout.question_key}"')
    if not isinstance(context, str):
        raise _MalformedError("context_not_text", id, _describe(context), f'a string in "{layout.context_key}"')
    published = qa.get("answers", [])
    if not isinstance(published, list):
        raise _MalformedError("answers_malformed", id, _describe(published), "a list of answers")
    # The original layout has bare texts (or numbers), the SQuAD style objects.
    answers = [(a.get("text"), a.get("answer_start")) if isinstance(a, dict) else (a, None) for a in published]
    for text, _ in answers:
        if not _is_scalar(text):
            raise _MalformedError("answers_malformed", id, _describe(text), "the text of an answer")
    if not all(is_unicode(text) for text in (question, context, *(str(text) for text, _ in answers))):
        raise _MalformedError("lone_surrogate", id, "half a surrogate pair", "valid Unicode")
    return _Question(id, question, context, answers)


def _note_text(report: DataReport, question: _Question) -> None:
    id, text = question.id, question.text
    if not text.strip():
        problem = Problem(id, "question_empty", repr(text), "a question", "kept as it is")
        report.note("question_empty", id, problem)
    elif text != text.strip():
        report.note("question_unstripped", id)
    if not question.context:
        report.note("context_empty", id)
    if not question.answers:
        report.note("no_answers", id)
    for answer, _ in question.answers:
        if not isinstance(answer, str):
            problem = Problem(
                id, "answer_not_string", _describe(answer), "a string", f"kept as the string {str(answer)!r}"
            )
            report.note("answer_not_string", id, problem)
        elif answer and answer != answer.strip():
            report.note("answer_unstripped", id)


def _read_answer(
    report: DataReport,
    question: _Question,
    published: object,
    stated: object,
    offset_unit: OffsetUnit,
    special: Mapping[str, str],
) -> Answer:
    """Locate one answer; see `read_examples` for the rule."""
    id, context, text = question.id, question.context, str(published)
    start = _as_offset(stated)
    if stated is not None and start is None:
        kind, remedy = "answer_start_not_integer", "read as if there were no start"
        report.note(kind, id, Problem(id, kind, _describe(stated), "a number", remedy))
    if text in special and not (text and start is not None and start >= 0 and context.startswith(text, start)):
        return Answer(text, kind=special[text])
    if not context:  # a gold file without its contexts: there is nothing to find
        return Answer(text)
    char_start, note = locate(context, text, start, offset_unit)
    if note is not None:
        report.note(note, id, _location_problem(id, note, context, text, start, char_start))
    return Answer(text, char_start, char_start + len(text)) if char_start >= 0 else Answer(text)


def locate(context: str, text: str, start: int | None, offset_unit: OffsetUnit) -> tuple[int, str | None]:
    """Find the place of an answer.

    Args:
        context: the context as published.
        text: the answer as published.
        start: the stated `answer_start`; None or negative where none is known.
        offset_unit: what `start` is supposed to count.

    Returns:
        The code point where the answer starts (-1: it does not occur), and the kind of note (None: as stated).
    """
    if not text:
        return -1, "answer_empty"
    stated = -1
    if start is not None and start >= 0:
        readings: dict[str, int | None] = {"codepoint": start, "utf16": utf16_to_codepoint(context, start)}
        reading, other = readings.pop(offset_unit), readings.popitem()
        if reading is not None and context.startswith(text, reading):
            return reading, None
        if other[1] is not None and context.startswith(text, other[1]):
            return other[1], f"answer_start_{other[0]}"
        stated = start if reading is None else reading
    char_start = context.find(text) if stated < 0 else nearest_occurrence(context, text, stated)
    if char_start < 0:
        return -1, "answer_not_in_context"
    return char_start, "searched" if stated < 0 else "relocated"


def _location_problem(
    id: str, kind: str, context: str, text: str, start: int | None, char_start: int
) -> Problem | None:
    if kind == "searched" and start is None:  # the original layout: no answer has a start
        return None
    found = "no start"
    if start is not None and start >= 0:
        found = f"{context[start : start + len(text)]!r} at char {start}"
    remedy = f"it is at {char_start}" if char_start >= 0 else "kept without a place (scored, never trained on)"
    return Problem(id, kind, found, f"answer {text!r}", remedy)


def _as_offset(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _as_text(value: object) -> str:
    # CJRC publishes is_impossible as "true"/"false", SQuAD 2.0 as a JSON boolean: one spelling for both.
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.encode("utf-8", "replace").decode()


def _group(article: dict[str, Any], index: int) -> str:
    for key in ("id", "caseid", "context_id", "title"):
        if _is_scalar(article.get(key)) and article[key] != "":
            return _as_text(article[key])
    return f"article {index}"


def _describe(value: object) -> str:
    """Say in a few words what a JSON value is."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        keys = ", ".join(map(_quote, list(value)[:4]))
        return f"an object with the keys {keys}{', …' if len(value) > 4 else ''}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    name = {bool: "the boolean", str: "the string", int: "the number", float: "the number"}[type(value)]
    return f"{name} {_quote(value)}"


def _quote(value: object) -> str:
    part = value[:60] if isinstance(value, str) else value
    quoted = ascii(part) if isinstance(part, str) and not is_unicode(part) else repr(part)
    return quoted if len(quoted) <= 62 and part == value else quoted[:60] + "…"
