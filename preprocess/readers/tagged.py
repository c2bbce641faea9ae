"""Published rows of tokens and their tags -> Examples whose answers are the marked pieces of the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from preprocess.readers.report import DataReport, Problem, shown
from preprocess.readers.rows import CONTEXT, LABEL, Columns, finished, note_text, note_unlabelled, read_rows
from preprocess.tags import chunks
from preprocess.types import Answer, Example

COLUMNS = Columns((CONTEXT, LABEL))
#: Between tokens, and between tags: files made for ERNIE have it, others have blanks.
_SEPARATOR = "\x02"
_TAG = re.compile("O|[BIES]-(.+)")


def read_tagged(path: str | Path, types: Sequence[str]) -> tuple[list[Example], DataReport]:
    """Read rows of tokens and tags.

    The text is the tokens, one after the other, without anything between them. A row with fewer or more tags than
    tokens, or another tag than those of the task, is dropped; one whose tags are empty is kept and unlabelled.

    Args:
        path: of the file.
        types: of chunks, such as "PER".

    Returns:
        The examples, in file order, whose ids are the numbers of their lines and whose answers are the chunks, each
        of its type as kind; and the report.

    Raises:
        DataError: if the file can't be read, or none of its rows can be used.
    """
    rows, report = read_rows(path, COLUMNS)
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
