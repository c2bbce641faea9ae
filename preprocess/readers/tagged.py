"""Published rows of tokens and their tags -> Examples whose answers are the marked pieces of the text.

A row is a text, with U+0002 or blanks between its tokens, and between their tags. In the other layout, CoNLL's, a row
is a token and its tag, with a tab or a blank between them, and an empty line ends a text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, groupby
from pathlib import Path

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import read_bytes
from preprocess.readers.parts import Parts, RowParts
from preprocess.readers.report import DataReport, Problem, shown
from preprocess.readers.rows import (
    CONTEXT,
    LABEL,
    Columns,
    Lines,
    Row,
    cut_lines,
    finished,
    note_text,
    note_unlabelled,
    report_on,
    rows_of,
)
from preprocess.tags import chunks
from preprocess.types import Answer, Example

COLUMNS = Columns((CONTEXT, LABEL))
#: Between tokens, and between tags: files made for ERNIE have it, others have blanks.
_SEPARATOR = "\x02"
_TAG = re.compile("O|[BIES]-(.+)")
#: A line of CoNLL's layout.
_TOKEN = re.compile(r"(\S+)[ \t]+(O|[BIES]-[^\s\x02]+)\s*")


def read_tagged(path: str | Path, types: Sequence[str]) -> tuple[list[Example], DataReport]:
    """Read rows of tokens and tags, in one layout or the other.

    The text is the tokens, one after the other, without anything between them. A row with fewer or more tags than
    tokens, or another tag than those of the task, is dropped; one whose tags are empty is kept and unlabelled.

    Args:
        path: of the file.
        types: of chunks, such as "PER".

    Returns:
        The examples, in file order, whose ids are the numbers of their (first) lines and whose answers are the
        chunks, each of its type as kind; and the report.

    Raises:
        DataError: if the file can't be read, or none of its rows can be used.
    """
    content = read_bytes(path, DataError)
    lines, report = cut_lines(content, path, COLUMNS), report_on(content, path)
    rows, report = _read_texts(lines, report) if _is_conll(lines) else rows_of(lines, COLUMNS, report)
    examples: list[Example] = []
    for row in rows:
        id, published = f"{row.line}", row.cells.get(LABEL, "")
        labelled = bool(published.strip())
        separator = _separator(row.cells[CONTEXT], published)
        tags = _parts(published, separator) if labelled else []
        tokens = _parts(row.cells[CONTEXT], separator)
        wrong = next((tag for tag in tags if not _is_known(tag, types)), None)
        if wrong is not None:
            report.drop("label_unknown", id, repr(shown(wrong)), f"O, or B- and I- with {', '.join(types)}")
            continue
        if labelled and len(tags) != len(tokens):
            report.drop("tags_wrong", id, f"{len(tags)} tags", f"{len(tokens)}, one for each token")
            continue
        if not labelled:
            note_unlabelled(report, id, LABEL in row.cells)
        text = "".join(tokens)
        note_text(report, id, CONTEXT, text)
        edges = [0, *accumulate(map(len, tokens))]
        places = [(kind, edges[start], edges[end]) for kind, start, end in chunks(tags)]
        for kind, start, end in places:
            if start == end:
                report.note(
                    "chunk_empty", id, Problem(id, "chunk_empty", f"{kind} of no character", "a text", "left out")
                )
        answers = tuple(Answer(text[start:end], start, end, kind) for kind, start, end in places if start < end)
        examples.append(Example(id, "", text, answers, id, labelled=labelled))
    return finished(examples, report)


def tagged_parts(content: bytes, path: str | Path) -> Parts:
    """Divide a file by its texts, damaged ones among them; `DataError` if it holds no rows."""
    lines = cut_lines(content, path, COLUMNS)
    if not _is_conll(lines):
        return RowParts(COLUMNS, by_label=False)(content, path)
    texts = ["\n".join(text for _, text in own) for own in _texts(lines)]
    ties = [[(CONTEXT, "".join(line.split()[0] for line in text.split("\n")))] for text in texts]

    def write(chosen: Sequence[int]) -> str:
        return "".join(f"{texts[index]}\n\n" for index in chosen)

    return Parts(ties, [""] * len(texts), write, ".tsv", "texts")


def _is_conll(lines: Lines) -> bool:
    """Whether most lines hold a token and its tag."""
    filled = [text for _, text in lines.rows if text.strip()]
    return not lines.header and 2 * sum(_TOKEN.fullmatch(text) is not None for text in filled) > len(filled)


def _texts(lines: Lines) -> list[list[tuple[int, str]]]:
    """Return the lines of each text of CoNLL's layout, with their numbers."""
    groups = groupby(lines.rows, key=lambda line: bool(line[1].strip()))
    return [list(own) for filled, own in groups if filled]


def _read_texts(lines: Lines, report: DataReport) -> tuple[list[Row], DataReport]:
    """Return each text as a row of the other layout; one with a line that is no token with its tag is dropped."""
    report.layout = "a token and its tag per line"
    rows: list[Row] = []
    for own in _texts(lines):
        report.n_questions += 1
        found = [(number, text, _TOKEN.fullmatch(text)) for number, text in own]
        tokens = [match for _, _, match in found if match is not None]
        if len(tokens) < len(found):
            number, text = next((number, text) for number, text, match in found if match is None)
            report.drop("token_malformed", f"{own[0][0]}", f"{text!r} in line {number}", "a token and its tag")
            continue
        cells = {CONTEXT: _SEPARATOR.join(match[1] for match in tokens)}
        rows.append(Row(own[0][0], {**cells, LABEL: _SEPARATOR.join(match[2] for match in tokens)}))
    return rows, report


def _separator(tokens: str, tags: str) -> str:
    """Return what stands between tokens, and between their tags; "" where there is one token."""
    if _SEPARATOR in tokens or _SEPARATOR in tags:
        return _SEPARATOR
    # A blank may also be a token's own, but never a tag's.
    return " " if " " in (tags or tokens).strip() else ""


def _parts(cell: str, separator: str) -> list[str]:
    return cell.split(separator) if separator else [cell]


def _is_known(tag: str, types: Sequence[str]) -> bool:
    match = _TAG.fullmatch(tag)
    return match is not None and (match[1] is None or match[1] in types)
