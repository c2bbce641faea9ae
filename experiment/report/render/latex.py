"""Leaderboards in LaTeX, with booktabs; xelatex or lualatex for Chinese names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from experiment.io.text import one_line
from experiment.report.board import Cell, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "-": "{-}",
    "Δ": r"$\Delta$",
    "†": r"\dag{}",
}


#: Two of these would be drawn as one quotation mark; "`", "-", "<" and ">" are told apart by their own forms.
_LIGATURES = re.compile(r"([,'])(?=\1)")


def escaped(text: str) -> str:
    """Return a text that LaTeX prints as it is."""
    plain = "".join(_SPECIAL.get(character, character) for character in one_line(text))
    return _LIGATURES.sub(r"\1{}", plain)


def latex(tables: Sequence[Table]) -> str:
    """Format tables; the preamble needs `booktabs`."""
    return "\n".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    columns = "l" + "r" * (len(table.header) - 1)
    notes = [rf"\textsuperscript{{{escaped(mark)}}}\,{escaped(text)}." for mark, text in table.notes.items()]
    return "\n".join(
        [
            "% \\usepackage[T1]{fontenc} (pdflatex), \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(table.task)}, {escaped(table.split)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(table.header),
            r"\midrule",
            *map(_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip\footnotesize\raggedright",
            *[f"{note}\\par" for note in notes],
            r"\end{table}",
            "",
        ]
    )


def _row(cells: Sequence[Cell]) -> str:
    return " & ".join(map(_cell, cells)) + r" \\"


def _cell(cell: Cell) -> str:
    text = escaped(cell.text)
    if cell.best and text:
        text = rf"\textbf{{{text}}}"
    marks = [*(["†"] if cell.not_worse else []), *cell.notes]
    return text + (rf"\textsuperscript{{{escaped(' '.join(marks))}}}" if marks else "")
