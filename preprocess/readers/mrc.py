"""Published data files -> Examples, and a report on every question."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preprocess.base.jsonfile import describe
from preprocess.joined import JoinedAnswer
from preprocess.readers.documents import close_report, open_document
from preprocess.readers.layouts import Paragraph, as_text, detect, is_scalar, paragraphs
from preprocess.readers.location import OffsetUnit, as_offset, locate, location_problem
from preprocess.readers.questions import MalformedError, Published, Question, check_question
from preprocess.readers.report import DataReport, Problem
from preprocess.text.offsets import is_unicode
from preprocess.types import Answer, Example

#: Published keys of an article, paragraph or question that a metric or task needs.
_TEXTS, _IMPOSSIBLE, _EVIDENCES = ("domain", "type"), "is_impossible", "evidences"
#: What `is_impossible` says, as text in lower case: SQuAD 2.0 has JSON booleans, CJRC these words, others numbers.
_FLAGS = {"true": "true", "false": "false", "1": "true", "0": "false", "1.0": "true", "0.0": "false"}


def read_examples(
    path: str | Path,
    *,
    offset_unit: OffsetUnit = "codepoint",
    special: Mapping[str, str] | None = None,
    several: bool = False,
) -> tuple[list[Example], DataReport]:
    """Read a data file of any layout, from its first byte to its last and once: it may be a pipe.

    An answer stands at its stated start, read in `offset_unit`; else at the start read in the other unit; else at
    the occurrence nearest to the stated start (no start: the first one); else it keeps its text and has no place.
    Whatever is not the first case is noted in the report.

    A question without "answers" (or with null) is unlabelled, which is not the same as an empty list: that says that
    there is no answer. So does "is_impossible": true.

    Args:
        path: a file of JSON or JSON Lines, in UTF-8 (or in UTF-16 with a byte order mark).
        offset_unit: what `answer_start` counts in this data set: code points, or UTF-16 code units (CMRC2018).
        special: answer text -> kind, for the answers of this data set that are no spans ("YES"): they are never
            searched for in the context, unless the text stands at its stated start.
        several: whether an answer may be a list of spans, which becomes a `JoinedAnswer` of the kind "spans"; a list
            of one is that span, and an empty one the answer "".

    Returns:
        The examples in file order and the report, which holds the hash of what was read.

    Raises:
        DataError: if the file can't be read, is not JSON of a known layout, or holds no usable question.
    """
    document, report = open_document(path)
    items, layout = detect(path, document)
    report.layout = layout.name
    examples: dict[str, Example] = {}
    for paragraph in paragraphs(items, layout, report):
        for index, qa in enumerate(paragraph.published["qas"]):
            report.n_questions += 1
            try:
                question = check_question(index, qa, paragraph, layout, several=several)
                if question.id in examples:
                    raise MalformedError("id_duplicate", question.id, "an id that came before", "unique ids")
            except MalformedError as malformed:
                report.drop(*malformed.args)
                continue
            examples[question.id] = _example(report, question, paragraph, qa, offset_unit, special or {})
    return close_report(report, examples, "give a file with filled 'qas' lists"), report


def note_contradictions(examples: Sequence[Example], report: DataReport, *, impossible: str, possible: str) -> None:
    """Note where `is_impossible` and the answers say different things.

    Args:
        examples: of one file.
        report: on the file.
        impossible: what is done about a question that is said to have no answer, and has some.
        possible: what is done about one that is said to have an answer, and has none.
    """
    for example in examples:
        flag, n = example.extra.get(_IMPOSSIBLE, ""), sum(answer.kind == "span" for answer in example.answers)
        kind, remedy = "", ""
        if flag == "true" and n:
            kind, remedy = "impossible_with_answers", impossible
        elif flag == "false" and example.labelled and not n:
            kind, remedy = "possible_without_answers", possible
        if kind:
            found, expected = f"{n} answers and {_IMPOSSIBLE} {flag}", f"answers, or {_IMPOSSIBLE} true"
            report.note(kind, example.id, Problem(example.id, kind, found, expected, remedy))


def _example(
    report: DataReport,
    question: Question,
    paragraph: Paragraph,
    qa: Mapping[str, Any],
    offset_unit: OffsetUnit,
    special: Mapping[str, str],
) -> Example:
    extra = _read_extra(report, question.id, {**paragraph.article, **paragraph.published, **qa})
    labelled = question.answers is not None or extra.get(_IMPOSSIBLE) == "true"
    if labelled and question.answers is None:
        question.answers, question.notes = [], [("impossible_without_answers", None)]
    _note_text(report, question)
    answers = tuple(
        _read_published(report, question, answer, offset_unit, special) for answer in question.answers or ()
    )
    return Example(question.id, question.text, question.context, answers, paragraph.group, extra, labelled=labelled)


def _read_extra(report: DataReport, id: str, published: Mapping[str, Any]) -> dict[str, str]:
    extra = {}
    for key in _TEXTS:
        value = published.get(key)
        if is_scalar(value):
            extra[key] = as_text(value)
        elif value is not None:
            _note_extra(report, id, key, value, "a text")
    evidences = published.get(_EVIDENCES)
    if isinstance(evidences, list) and all(isinstance(text, str) and is_unicode(text) for text in evidences):
        extra[_EVIDENCES] = json.dumps(evidences, ensure_ascii=False)
    elif evidences is not None:
        _note_extra(report, id, _EVIDENCES, evidences, "a list of texts")
    flag = published.get(_IMPOSSIBLE)
    if flag is not None:
        value = _FLAGS.get(str(flag).strip().lower()) if isinstance(flag, (str, int, float)) else None
        if value is None:
            _note_extra(report, id, _IMPOSSIBLE, flag, "true or false")
        else:
            extra[_IMPOSSIBLE] = value
            if not isinstance(flag, bool) and flag != value:
                kind, expected = "is_impossible_spelled", f'true or false in "{_IMPOSSIBLE}"'
                report.note(kind, id, Problem(id, kind, describe(flag), expected, f"read as {value}"))
    return extra


def _note_extra(report: DataReport, id: str, key: str, value: object, expected: str) -> None:
    kind, remedy = "extra_malformed", "read as if it were missing"
    report.note(kind, id, Problem(id, kind, describe(value), f'{expected} in "{key}"', remedy))


def _note_text(report: DataReport, question: Question) -> None:
    id, text = question.id, question.text
    if not text.strip():
        problem = Problem(id, "question_empty", repr(text), "a question", "kept as it is")
        report.note("question_empty", id, problem)
    elif text != text.strip():
        report.note("question_unstripped", id)
    if not question.context:
        report.note("context_empty", id)
    for kind, about in question.notes:
        report.note(kind, id, about)
    if question.answers is not None and not question.answers:
        report.note("no_answers", id)
    for answer, _ in question.spans:
        if not isinstance(answer, str):
            kind, remedy = "answer_not_string", f"kept as the string {str(answer)!r}"
            report.note(kind, id, Problem(id, kind, describe(answer), "a string", remedy))
        elif answer and answer != answer.strip():
            report.note("answer_unstripped", id)


def _read_published(
    report: DataReport,
    question: Question,
    published: Published,
    offset_unit: OffsetUnit,
    special: Mapping[str, str],
) -> Answer:
    """Locate one answer, each of its spans by itself."""
    spans = published if isinstance(published, list) else [published]
    parts = tuple(_read_answer(report, question, *span, offset_unit, special) for span in spans or [("", None)])
    if len(parts) == 1:
        return parts[0]
    return JoinedAnswer("".join(part.text for part in parts), kind="spans", parts=parts)


def _read_answer(
    report: DataReport,
    question: Question,
    published: object,
    stated: object,
    offset_unit: OffsetUnit,
    special: Mapping[str, str],
) -> Answer:
    """Locate one answer; see `read_examples` for the rule."""
    id, context, text = question.id, question.context, str(published)
    start = as_offset(stated)
    if stated is not None and start is None:
        kind, remedy = "answer_start_not_integer", "read as if there were no start"
        report.note(kind, id, Problem(id, kind, describe(stated), "a number", remedy))
    elif isinstance(stated, str):
        kind = "answer_start_string"
        report.note(kind, id, Problem(id, kind, describe(stated), "a number", f"read as {start}"))
    if text in special and not (text and start is not None and start >= 0 and context.startswith(text, start)):
        return Answer(text, kind=special[text])
    if not context:  # a gold file without its contexts: there is nothing to find
        return Answer(text)
    char_start, note = locate(context, text, start, offset_unit)
    if note is not None:
        report.note(note, id, location_problem(id, note, context, text, start, char_start))
    return Answer(text, char_start, char_start + len(text)) if char_start >= 0 else Answer(text)
