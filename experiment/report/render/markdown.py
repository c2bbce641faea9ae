"""Leaderboards in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from experiment.io.text import one_line
from experiment.report.board import Cell, Table

#: What Markdown reads as more than the character, and what makes links of addresses and names.
_SPECIAL = re.compile(r"[\\`*_{}\[\]~#!$|<>&@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
#: A backslash before "|" does not keep every program from ending the cell; before the others it is shown in HTML.
_AS_ENTITY = "|<>&:@."


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(_escape, one_line(text))


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return f"&#{ord(character)};" if character in _AS_ENTITY else f"\\{character}"


def markdown(tables: Sequence[Table]) -> str:
    """Format tables; the best value of a column is bold."""
    return "\n".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    rows = [table.header, *table.rows]
    lines = ["| " + " | ".join(map(_cell, cells)) + " |" for cells in rows]
    lines.insert(1, "|" + "---|" * len(table.header))
    notes = [f"<sup>{escaped(mark)}</sup> {escaped(text)}  " for mark, text in table.notes.items()]
    return "\n".join([f"### {escaped(table.task)}, {escaped(table.split)}", "", *lines, "", *notes]) + "\n"


def _cell(cell: Cell) -> str:
    text = escaped(cell.text)
    if cell.best and text:
        text = f"**{text}**"
    marks = [*(["†"] if cell.not_worse else []), *cell.notes]
    return text + (f"<sup>{escaped(' '.join(marks))}</sup>" if marks else "")
