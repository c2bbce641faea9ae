"""Published files of tab-separated rows -> rows by what their columns hold; each is kept, or dropped for a reason.

A file may begin with a header, be compressed by gzip, have a byte order mark and either kind of line break. Quotation
marks are text: the published files were not written by a CSV program.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import read_bytes, text_of
from preprocess.readers.report import DataReport, Problem, shown
from preprocess.types import Answer, Example

#: What a column may hold; a file without labels is one that is to be answered.
QUESTION, CONTEXT, LABEL = "question", "context", "label"
#: Another column that is read: files of several languages say of each row which it is.
LANGUAGE = "language"
#: Names of columns in published headers -> what they hold.
_NAMES = {
    "text_a": QUESTION, "sentence1": QUESTION, "sentence_a": QUESTION, "premise": QUESTION, "query": QUESTION,
    "text_b": CONTEXT, "sentence2": CONTEXT, "sentence_b": CONTEXT, "hypothesis": CONTEXT, "hypo": CONTEXT,
    "text": CONTEXT, "sentence": CONTEXT, "title": CONTEXT, "answer": CONTEXT, "review": CONTEXT, "tokens": CONTEXT,
    "label": LABEL, "gold_label": LABEL, "labels": LABEL, "tags": LABEL, "question": QUESTION, "context": CONTEXT,
    "language": LANGUAGE,
}  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """The columns of a task's files.

    Args:
        order: what each column holds, in a file without a header; one of them is the label.
        names: further names in headers, in lower case; they go before those that are known of any file.
        language: of the rows that are read, in a file of several.
    """

    order: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    language: str = "zh"

    def header(self, cells: Sequence[str]) -> tuple[str, ...] | None:
        """Return what each column holds, "" for nothing that is read, if these are a header; None of other rows."""
        names = {**_NAMES, **self.names}
        if QUESTION not in self.order:  # the only text is often called the first
            names = {name: CONTEXT if what == QUESTION else what for name, what in names.items()}
        found = [names.get(cell.strip().lower(), "") for cell in cells]
        order = tuple(what if what not in found[:i] else "" for i, what in enumerate(found))
        return order if set(self.order) - {LABEL} <= set(order) else None

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """What the columns hold where there are no labels."""
        return tuple(what for what in self.order if what != LABEL)

    @property
    def words(self) -> str:
        """The columns, for a message."""
        return ", ".join(self.order)


class Row(NamedTuple):
    """A row of a file.

    Args:
        line: its number in the file, from 1: ids are made of it, so that no row's id depends on other rows.
        cells: what a column holds -> its text; without "label" in a file that has none.
    """

    line: int
    cells: Mapping[str, str]


class Lines(NamedTuple):
    """The lines of a file.

    Args:
        header: the line that names the columns; "" for none.
        rows: number and text of each other line, blank ones at the end left out.
        order: what each column holds.
    """

    header: str
    rows: list[tuple[int, str]]
    order: tuple[str, ...]


def cut_lines(content: bytes, path: str | Path, columns: Columns) -> Lines:
    """Find the rows of a file, and what their columns hold.

    A file without a header has labels unless most of its rows are too short by just that column.

    Raises:
        DataError: if it is damaged, not UTF-8 (or UTF-16 with a byte order mark), or holds no rows.
    """
    # Not splitlines(), which also breaks at characters that stand in Chinese texts, such as U+2028.
    texts = [line.removesuffix("\r") for line in text_of(content, path, DataError).split("\n")]
    while texts and not texts[-1].strip():
        del texts[-1]
    rows = list(enumerate(texts, start=1))
    first = next((index for index, text in enumerate(texts) if text.strip()), 0)
    header = columns.header(texts[first].split("\t")) if texts else None
    if header is not None:
        del rows[first]
    if not any(text.strip() for _, text in rows):
        raise DataError(f"{path}: no rows in it; give a file of the tab-separated columns {columns.words}")
    if header is not None:
        return Lines(texts[first], rows, header)
    width, _ = Counter(text.count("\t") + 1 for _, text in rows if text.strip()).most_common(1)[0]
    return Lines("", rows, columns.unlabelled if width == len(columns.unlabelled) else columns.order)


def read_rows(path: str | Path, columns: Columns) -> tuple[list[Row], DataReport]:
    """Read a file once, from its first byte to its last: it may be a pipe.

    Args:
        path: of the file.
        columns: of the task's files.

    Returns:
        the rows with as many columns as the file has, and the report, in which all others are counted, with the hash
        of what was read; rows of another language than the task's are noted alone. What else is wrong with a row is
        for the caller to say.

    Raises:
        DataError: as `cut_lines`.
    """
    content = read_bytes(path, DataError)
    return rows_of(cut_lines(content, path, columns), columns, report_on(content, path))


def report_on(content: bytes, path: str | Path) -> DataReport:
    """Return an empty report on a file of rows, with its hash."""
    return DataReport(str(path), layout="rows", sha256=hashlib.sha256(content).hexdigest())


def rows_of(lines: Lines, columns: Columns, report: DataReport) -> tuple[list[Row], DataReport]:
    """Return what `read_rows` does, given the lines of the file and the report to write in."""
    if lines.header:
        report.layout = "rows with a header"
    rows: list[Row] = []
    for number, text in lines.rows:
        cells = text.split("\t")
        named = {what: cell for what, cell in zip(lines.order, cells, strict=False) if what}
        if named.get(LANGUAGE, columns.language).strip() != columns.language:
            report.note("language_other", f"line {number}")
            continue
        report.n_questions += 1
        if not text.strip():
            report.drop("row_empty", f"line {number}", "nothing", f"the columns {columns.words}")
        elif len(cells) != len(lines.order):
            found = f"{len(cells)} columns, {text!r}"
            report.drop("columns_wrong", f"line {number}", found, f"{len(lines.order)} columns")
        else:
            rows.append(Row(number, named))
    return rows, report


def finished(examples: list[Example], report: DataReport) -> tuple[list[Example], DataReport]:
    """Return what a reader of rows returns, its report with its counts.

    Raises:
        DataError: if no row can be used.
    """
    if not report.n_questions:
        raise DataError(f"{report.file}: all of its rows are of another language; give a file that has the task's")
    if not examples:
        first = report.problems[0]
        raise DataError(f"{report.file}: none of its {report.n_questions} rows can be used; first: {first}")
    report.n_articles = len({example.group for example in examples})
    report.n_contexts = len({example.context for example in examples})
    report.n_kept = len(examples)
    return examples, report


@dataclass(frozen=True)
class Labels:
    """The classes of a data set.

    Args:
        names: all of them, in the order of the model's outputs.
        aliases: what else they are called in files -> name.
    """

    names: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def find(self, text: object) -> str:
        """Return the name of a label as it stands in a file, in which blanks around it don't count; "" for none."""
        label = str(text).strip()
        label = self.aliases.get(label, label)
        return label if label in self.names else ""


def read_classified(
    path: str | Path, columns: Columns, labels: Labels, *, group: str = ""
) -> tuple[list[Example], DataReport]:
    """Read rows of a text, or a pair of texts, and a class.

    A row's id is the number of its line; where rows are grouped, behind that of the first row of its group. A row
    whose label is empty is kept and unlabelled; one with another label than those of the task is dropped.

    Args:
        path: of the file.
        columns: of the task's files.
        labels: that it may have.
        group: column whose equal texts belong together (a question with its candidates); "" for none.

    Returns:
        The examples, in file order, with the class as their answer, and the report.

    Raises:
        DataError: if the file can't be read, or none of its rows can be used.
    """
    rows, report = read_rows(path, columns)
    examples: list[Example] = []
    first_line: dict[str, int] = {}
    for row in rows:
        id = f"{row.line}"
        if group:
            id = f"{first_line.setdefault(row.cells[group], row.line)}_{row.line}"
        published = row.cells.get(LABEL, "")
        label = labels.find(published)
        if published.strip() and not label:
            report.drop("label_unknown", id, repr(shown(published)), f"one of {', '.join(labels.names)}")
            continue
        if not label:
            note_unlabelled(report, id, LABEL in row.cells)
        for what in columns.unlabelled:
            note_text(report, id, what, row.cells[what])
        answers = (Answer(label, kind="class"),) if label else ()
        examples.append(
            Example(
                id,
                row.cells.get(QUESTION, ""),
                row.cells[CONTEXT],
                answers,
                id.partition("_")[0],
                labelled=bool(label),
            )
        )
    return finished(examples, report)


def note_unlabelled(report: DataReport, id: str, has_column: bool) -> None:
    """Note that a row says not what is right: because its label is empty, or the file has no labels."""
    problem = Problem(id, "unlabelled", "an empty label", "a label", "kept without one") if has_column else None
    report.note("unlabelled", id, problem)


def note_text(report: DataReport, id: str, what: str, text: str) -> None:
    """Note that a text is empty, or that blanks stand around it; both are kept."""
    if not text.strip():
        report.note(f"{what}_empty", id, Problem(id, f"{what}_empty", repr(text), "a text", "kept as it is"))
    elif text != text.strip():
        report.note(f"{what}_unstripped", id)
