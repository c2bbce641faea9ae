"""What readers of every layout share: a file and its report, opened and closed, and the texts in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import describe, parse_json, read_bytes
from preprocess.readers.layouts import is_scalar
from preprocess.readers.questions import MalformedError
from preprocess.readers.report import DataReport, Problem
from preprocess.text.offsets import is_unicode
from preprocess.types import Example


def open_document(path: str | Path, layout: str = "") -> tuple[Any, DataReport]:
    """Read a data file, from its first byte to its last and once: it may be a pipe.

    Args:
        path: a file of JSON or JSON Lines, in UTF-8 (or in UTF-16 with a byte order mark), packed by gzip or not.
        layout: what the report calls the file's layout.

    Returns:
        The JSON value, of JSON Lines the list of them, and a report that holds the hash of the file.

    Raises:
        DataError: if the file can't be read or is not JSON.
    """
    content = read_bytes(path, DataError)
    document = parse_json(content, path, DataError, "give a JSON data file", lines=True)
    return document, DataReport(str(path), layout=layout, sha256=hashlib.sha256(content).hexdigest())


def keep(report: DataReport, examples: dict[str, Example], read: Callable[[], Example]) -> None:
    """Count a question of a file, and keep it under its id, or drop it with the reason.

    Args:
        report: of the file.
        examples: those kept so far, by id.
        read: returns the question; raises `MalformedError` if it can't be used.
    """
    report.n_questions += 1
    try:
        example = read()
        if example.id in examples:
            raise MalformedError("id_duplicate", example.id, "an id that came before", "unique ids")
    except MalformedError as malformed:
        report.drop(*malformed.args)
        return
    examples[example.id] = example


def close_report(report: DataReport, examples: Mapping[str, Example], remedy: str) -> list[Example]:
    """Count what was kept of a file, and return it.

    Args:
        report: of the file, with all questions counted.
        examples: the questions that are kept, by id.
        remedy: what a file needs that has no questions in it, such as "give a file with filled 'qas' lists".

    Raises:
        DataError: if it has no questions, or none of them can be used.
    """
    report.n_kept = len(examples)
    if not report.n_questions:
        seen = f"; first problem: {report.problems[0]}" if report.problems else ""
        raise DataError(f"{report.file}: no questions in it ({report.layout} layout{seen}); {remedy}")
    if not examples:
        first = report.problems[0]
        raise DataError(f"{report.file}: none of its {report.n_questions} questions can be used; first: {first}")
    return list(examples.values())


def checked_id(value: Any, place: str, what: str) -> str:
    """Return a published id, a string or a number, as text.

    Raises:
        MalformedError: if it is neither, "", or no Unicode.
    """
    if not is_scalar(value) or value == "":
        raise MalformedError("id_missing", place, describe(value), what)
    if not is_unicode(str(value)):
        raise MalformedError("lone_surrogate", ascii(value), "half a surrogate pair", "valid Unicode")
    return str(value)


def checked_options(report: DataReport, id: str, published: Any, key: str) -> tuple[str, ...]:
    """Return the options of a question as texts; what is odd about them is noted.

    Args:
        report: gets the notes.
        id: of the question.
        published: a list of texts, or of numbers.
        key: where it was found.

    Raises:
        MalformedError: if it is something else, or empty.
    """
    expected = f'a list of texts in "{key}"'
    if not isinstance(published, list) or not published:
        raise MalformedError("options_malformed", id, describe(published), expected)
    for option in published:
        if not is_scalar(option):
            raise MalformedError("options_malformed", id, f"{describe(option)} among them", expected)
    options = tuple(map(str, published))
    if not all(map(is_unicode, options)):
        raise MalformedError("lone_surrogate", id, "half a surrogate pair", "valid Unicode")
    number = next((option for option in published if not isinstance(option, str)), None)
    if number is not None:
        kind, remedy = "option_not_string", f"kept as the string {str(number)!r}"
        report.note(kind, id, Problem(id, kind, describe(number), "a string", remedy))
    if len(set(options)) < len(options):
        report.note("options_equal", id)
    return options
