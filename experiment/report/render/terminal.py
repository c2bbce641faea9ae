"""Leaderboards as lines of text: the best value of a column bears a star."""

from __future__ import annotations

from collections.abc import Sequence

from experiment.io.tables import aligned
from experiment.io.text import one_line
from experiment.report.board import Cell, Table


def terminal(tables: Sequence[Table]) -> str:
    """Format tables; what could move a terminal's cursor or colour it is shown by its code."""
    return "\n".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    header, *rows = ([_cell(cell) for cell in cells] for cells in (table.header, *table.rows))
    lines = aligned(header, rows, right=header[1:])
    notes = [f"[{mark}] {one_line(text)}" for mark, text in table.notes.items()]
    if any(cell.best for cells in table.rows for cell in cells):
        notes.append("* the best of its column")
    title = f"{one_line(table.task)}, {one_line(table.split)}"
    return "\n".join([title, *lines, *notes]) + "\n"


def _cell(cell: Cell) -> str:
    marks = "".join(f"[{mark}]" for mark in (*(["†"] if cell.not_worse else []), *cell.notes))
    return f"{one_line(cell.text)}{'*' if cell.best and cell.text else ''}{' ' if marks else ''}{marks}"
