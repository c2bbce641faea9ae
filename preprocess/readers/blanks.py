"""Passages with blanks and candidates for them -> an Example per blank.

* CMRC2019: `{"data": [{"context_id", "context" with [BLANK1] …, "choices": [text, …], "answers": [index, …]}]}`, the
  n-th answer that of [BLANKn];
* CHID: one `{"groupId", "content": [text with #idiom000123# …, …], "candidates": [text, …]}` per line, some without
  the id, and the answers in a file beside it: `dev_answer.json` or `dev_answer.csv` for `dev.json`, an object
  `{"#idiom000123#": index}` or lines `#idiom000123#,index`. They may also stand in the passage, as "answers".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from preprocess.base.errors import DataError
from preprocess.base.hashing import hash_of_files
from preprocess.base.jsonfile import describe, parse_json, read_bytes, text_of
from preprocess.readers.documents import checked_id, checked_options, close_report, keep, open_document
from preprocess.readers.layouts import found_in, is_scalar
from preprocess.readers.location import as_offset
from preprocess.readers.parts import Parts, Tie, divided
from preprocess.readers.questions import MalformedError
from preprocess.readers.report import DataReport, Problem, shown
from preprocess.text.offsets import is_unicode
from preprocess.types import Answer, Example


@dataclass(frozen=True, slots=True)
class Layout:
    """What a layout calls the parts of a passage, and how it writes blanks.

    Args:
        name: of the layout.
        id_key: of the passage's id.
        text_key: of its text, or of the list of its texts.
        options_key: of the candidates.
        blank: pattern of a blank, whose group is its number.
        blank_id: id of a blank's Example, of the passage's "id" and the blank's "number".
    """

    name: str
    id_key: str
    text_key: str
    options_key: str
    blank: str
    blank_id: str


#: An id names its passage in front of a number, as those of CMRC2018 do.
CMRC2019 = Layout("CMRC2019", "context_id", "context", "choices", r"\[BLANK(\d{1,4})\]", "{id}-{number}")
#: A blank's number is unique in a file, and published answers go by it.
CHID = Layout("CHID", "groupId", "content", "candidates", r"#idiom(\d{1,9})#", "#idiom{number}#")


def read_blanks(path: str | Path, layout: Layout) -> tuple[list[Example], DataReport]:
    """Read a file of passages with blanks: an Example per blank.

    Its question is the blank as it is written, its context the text that the blank stands in, its group the passage.
    The blanks of a passage without answers are unlabelled.

    Args:
        path: a file of JSON or JSON Lines; of CHID its answers may lie beside it.
        layout: `CMRC2019` or `CHID`.

    Returns:
        The examples in file order and the report.

    Raises:
        DataError: if the file, or that of its answers, can't be read, has another layout, or holds no usable blank.
    """
    content, report = open_document(path, layout.name)
    examples: dict[str, Example] = {}
    beside = _answers_beside(path, report) if layout is CHID else None
    for index, passage in enumerate(passages(path, content, layout)):
        place = f"passage {index}"
        report.n_articles += 1
        texts = _texts(passage, layout)
        if texts is None:
            found = found_in(passage, layout.text_key) if isinstance(passage, dict) else describe(passage)
            expected = f'an object with a text in "{layout.text_key}"'
            report.problems.append(Problem(place, "article_malformed", found, expected, "passage skipped"))
            continue
        report.n_contexts += len(texts)
        for read in _blanks(report, passage, texts, layout, beside, place):
            keep(report, examples, read)
    return close_report(report, examples, f'give passages with blanks in their "{layout.text_key}"'), report


def passages(path: str | Path, content: Any, layout: Layout) -> list[Any]:
    """Return the passages in what was read of a file.

    Raises:
        DataError: if there is none.
    """
    found = content.get("data", [content]) if isinstance(content, dict) else content
    keys = {layout.text_key, layout.options_key}
    if not (isinstance(found, list) and any(isinstance(item, dict) and keys & item.keys() for item in found)):
        first = describe(found[0] if isinstance(found, list) and found else content)
        expected = f'passages of {layout.name}, with "{layout.text_key}" and "{layout.options_key}"'
        raise DataError(f"{path}: found {first}; expected {expected}")
    return found


def blank_parts(content: bytes, path: str | Path, layout: Layout) -> Parts:
    """Divide a file by its passages, which take their answers with them.

    Raises:
        DataError: if there are none, or the file of their answers can't be read.
    """
    beside = _answers_beside(path) if layout is CHID else None

    def items_of(path: str | Path, document: Any) -> list[Any]:
        return [_with_answers(passage, layout, beside) for passage in passages(path, document, layout)]

    return divided(content, path, items_of, partial(_ties, layout), lambda _: "", "passages")


def _with_answers(passage: Any, layout: Layout, beside: Mapping[str, Any] | None) -> Any:
    texts = _texts(passage, layout)
    if beside is None or texts is None or _answers(passage) is not None:
        return passage
    written = [match[0] for text in texts for match in re.finditer(layout.blank, text)]
    return {**passage, "answers": {blank: beside[blank] for blank in written if blank in beside}}


def _ties(layout: Layout, passage: Any) -> Iterator[Tie]:
    if isinstance(passage, dict) and is_scalar(passage.get(layout.id_key)):
        yield layout.id_key, str(passage[layout.id_key])
    for text in _texts(passage, layout) or ():
        yield "context", text


def _answers_beside(path: str | Path, report: DataReport | None = None) -> dict[str, Any] | None:
    """Return the answers of a file of CHID's passages, by blank; None if there is no file of them.

    They are a part of the data: the report's hash becomes one of both files.
    """
    stem, _, rest = Path(path).name.partition(".")
    for ending in (rest, "json", "csv"):
        beside = Path(path).with_name(f"{stem}_answer.{ending}")
        if beside.is_file():
            content = read_bytes(beside, DataError)
            if report is not None:
                report.sha256 = hash_of_files([report.sha256, hashlib.sha256(content).hexdigest()])
            return _read_answers(beside, content)
    return None


def _read_answers(path: Path, content: bytes) -> dict[str, Any]:
    """Read a file of answers, by blank: a JSON object, or lines of a blank, a comma and an index.

    Raises:
        DataError: if it is neither, or gives a blank two answers.
    """
    text = text_of(content, path, DataError)
    if not text.lstrip().startswith("#"):
        remedy = 'give JSON {"#idiom000123#": index}, or lines #idiom000123#,index'
        found = parse_json(content, path, DataError, remedy)
        if not isinstance(found, dict):
            raise DataError(f"{path}: a JSON object was expected, found {describe(found)}; {remedy}")
        return found
    answers: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        blank, comma, written = (part.strip() for part in line.partition(","))
        if not comma or re.fullmatch(CHID.blank, blank) is None:
            raise DataError(f"{path}: line {number} is {shown(line)!r}; expected #idiom000123#,4: a blank, an index")
        number_written = as_offset(written)
        index = written if number_written is None else number_written
        if answers.setdefault(blank, index) != index:
            raise DataError(f"{path}: line {number} gives {blank} another answer, {index!r}; give each blank one")
    return answers


def _texts(passage: Any, layout: Layout) -> list[str] | None:
    """Return the texts of a passage; None if it has none that can be read."""
    published = passage.get(layout.text_key) if isinstance(passage, dict) else None
    texts = [published] if isinstance(published, str) else published
    return texts if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else None


def _blanks(
    report: DataReport,
    passage: Mapping[str, Any],
    texts: list[str],
    layout: Layout,
    beside: Mapping[str, Any] | None,
    place: str,
) -> Iterator[Callable[[], Example]]:
    """Yield what reads each blank of a passage, and what refuses each of its answers that belongs to none."""
    own = _answers(passage)
    blanks = [(match, text) for text in texts for match in re.finditer(layout.blank, text)]
    written = {match[0] for match, _ in blanks}
    for blank in own or ():
        if blank not in written:
            yield partial(_refuse, f"{place} {blank}")
    answers = beside if own is None else own
    for match, text in blanks:
        yield partial(_example, report, passage, match, text, layout, answers, place)


def _refuse(place: str) -> Example:
    raise MalformedError("answer_without_blank", place, "no such blank", "a blank for each answer")


def _answers(passage: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the answers that stand in a passage, by blank as it is written."""
    published = passage.get("answers")
    if isinstance(published, list):
        return {f"[BLANK{number}]": answer for number, answer in enumerate(published, start=1)}
    return published if isinstance(published, dict) else None


def _example(
    report: DataReport,
    passage: Mapping[str, Any],
    blank: re.Match[str],
    text: str,
    layout: Layout,
    answers: Mapping[str, Any] | None,
    place: str,
) -> Example:
    needs_id = "{id}" in layout.blank_id
    published_id = passage.get(layout.id_key, None if needs_id else place)
    passage_id = checked_id(published_id, f"{place} {blank[0]}", f'a string in "{layout.id_key}"')
    id = layout.blank_id.format(id=passage_id, number=blank[1])
    if needs_id and blank[1] != str(int(blank[1]) or ""):
        raise MalformedError("blank_misnumbered", id, blank[0], "a number from 1, which says whose answer is whose")
    if (n_times := text.count(blank[0])) > 1:
        raise MalformedError("blank_repeated", id, f"{blank[0]} {n_times} times", "each blank once in its text")
    if not is_unicode(text):
        raise MalformedError("lone_surrogate", id, "half a surrogate pair", "valid Unicode")
    options = checked_options(report, id, passage.get(layout.options_key), layout.options_key)
    if answers is None and passage.get("answers") is not None:
        raise MalformedError(
            "answers_malformed", id, describe(passage["answers"]), "the index of each blank's answer"
        )
    if answers is None:
        report.note("unlabelled", id)
        return Example(id, blank[0], text, (), passage_id, options=options, labelled=False)
    if blank[0] not in answers:
        raise MalformedError("blank_without_answer", id, "no answer", f"the answer of {blank[0]}")
    published = answers[blank[0]]
    index = as_offset(published)
    if index is None or not 0 <= index < len(options):
        expected = f'an index of the {len(options)} in "{layout.options_key}"'
        raise MalformedError("answer_not_an_option", id, describe(published), expected)
    if not isinstance(published, int):
        kind = "answer_spelled"
        report.note(kind, id, Problem(id, kind, describe(published), "an index", f"read as {index}"))
    return Example(id, blank[0], text, (Answer(options[index], kind="option"),), passage_id, options=options)
