"""A data file as items that can be divided among files of the same layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import decode, parse_json
from preprocess.readers.layouts import detect
from preprocess.readers.rows import CONTEXT, LABEL, Columns, cut_lines
from preprocess.text.offsets import is_unicode

#: Published keys that say which articles belong together.
_IDS = ("id", "caseid", "context_id", "title")
#: What items that must stay together have in common: a kind of name, and the name.
Tie = tuple[str, str]


@dataclass(frozen=True)
class Parts:
    """What a file holds, in its order.

    Args:
        ties: of each item; two items with one in common stay together.
        strata: of each item; each stratum gives its share of a part. "" for none.
        write: numbers of items, rising, -> the text of a file that holds these alone.
        suffix: of such a file's name.
        unit: what the items are called, in the plural.
    """

    ties: Sequence[Sequence[Tie]]
    strata: Sequence[str]
    write: Callable[[Sequence[int]], str]
    suffix: str
    unit: str


def json_parts(content: bytes, path: str | Path) -> Parts:
    """Divide a file of the layouts of `readers.layouts` by its articles, by the "domain" of each.

    Raises:
        DataError: if it is no such file.
    """
    return divided(content, path, lambda path, document: detect(path, document)[0], article_ties, _domain)


def divided(
    content: bytes,
    path: str | Path,
    items_of: Callable[[str | Path, Any], Sequence[Any]],
    ties: Callable[[Any], Iterator[Tie]],
    stratum: Callable[[Any], str],
    unit: str = "articles",
) -> Parts:
    """Divide a file of JSON by its items.

    Args:
        content: of the file.
        path: names it in messages.
        items_of: path and document to the items; raises `DataError` if there are none.
        ties: of an item, whatever it is.
        stratum: of an item, whatever it is.
        unit: what the items are called.

    Raises:
        DataError: if it is no such file.
    """
    document = parse_json(content, path, DataError, "give a JSON data file", lines=True)
    items = items_of(path, document)
    in_lines = isinstance(document, list) and not decode(content).lstrip().startswith("[")

    def write(chosen: Sequence[int]) -> str:
        part = [items[index] for index in chosen]
        values = part if in_lines else [{**document, "data": part} if isinstance(document, dict) else part]
        return "".join(map(_as_json, values))

    return Parts([list(ties(item)) for item in items], list(map(stratum, items)), write, ".json", unit)


def article_ties(item: Any) -> Iterator[Tie]:
    """Yield the ids of an article (case), and its contexts."""
    if not isinstance(item, dict):
        return
    for name in _IDS:
        if item.get(name) not in (None, ""):
            yield name, str(item[name])
    paragraphs = item.get("paragraphs", [item])
    for paragraph in paragraphs if isinstance(paragraphs, list) else []:
        if isinstance(paragraph, dict):
            context = paragraph.get("context", paragraph.get("context_text"))
            if isinstance(context, str) and context:
                yield CONTEXT, context


def _domain(item: Any) -> str:
    return str(item.get("domain", "")) if isinstance(item, dict) else ""


def _as_json(document: Any) -> str:
    text = json.dumps(document, ensure_ascii=False)
    # Half a surrogate pair, which JSON can hold and UTF-8 can't, stays what it was.
    return (text if is_unicode(text) else json.dumps(document)) + "\n"


@dataclass(frozen=True)
class RowParts:
    """Divides files of rows.

    Args:
        columns: of the files.
        together: columns whose equal texts keep rows together.
        by_label: whether each label gives its share.
    """

    columns: Columns
    together: tuple[str, ...] = (CONTEXT,)
    by_label: bool = True

    def __call__(self, content: bytes, path: str | Path) -> Parts:
        """Divide a file by its rows, damaged ones among them; its header stands in every part.

        Raises:
            DataError: if it holds no rows.
        """
        lines = cut_lines(content, path, self.columns)
        texts = [text for _, text in lines.rows]
        cells = [dict(zip(lines.order, text.split("\t"), strict=False)) for text in texts]
        ties = [[(what, row[what]) for what in self.together if row.get(what, "").strip()] for row in cells]
        strata = [row.get(LABEL, "").strip() if self.by_label else "" for row in cells]

        def write(chosen: Sequence[int]) -> str:
            header = [lines.header] if lines.header else []
            return "\n".join([*header, *(texts[index] for index in chosen), ""])

        return Parts(ties, strata, write, ".tsv", "rows")
