"""Tables: Markdown, and lines of text whose columns stand below each other."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from rich.cells import cell_len

from experiment.io.text import one_line

#: What ends a cell, or makes links, tags and other type of a text. "_" does so at the edges of words alone, and
#: stands within most names of models, which are read in terminals as well.
_SPECIAL = re.compile(r"[\\|<`*\[\]]")


class Strong(str):
    """A cell that is to stand out."""


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table in which each text is shown as it is, in one line; a `Strong` one in bold type."""
    lines = [_markdown_row(header), "|" + "---|" * len(header), *map(_markdown_row, rows)]
    return "".join(f"{line}\n" for line in lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_markdown_cell, cells)) + " |"


def _markdown_cell(cell: str) -> str:
    text = _SPECIAL.sub(lambda match: "&lt;" if match[0] == "<" else f"\\{match[0]}", one_line(cell))
    return f"**{text}**" if isinstance(cell, Strong) and text else text


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> Iterator[str]:
    """Yield the header and a line per row, columns two blanks apart, each as wide as its widest cell.

    Lines are neither wrapped nor cut, so that they can be piped. A Chinese character takes two columns of a terminal.

    Args:
        header: titles.
        rows: as many cells each as there are titles.
        right: titles of the columns that stand on the right, such as numbers.
    """
    table = [header, *rows]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        padded = []
        for title, cell, width in zip(header, cells, widths, strict=True):
            blanks = " " * (width - cell_len(cell))
            padded.append(blanks + cell if title in right else cell + blanks)
        yield "  ".join(padded).rstrip()
