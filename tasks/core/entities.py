"""Entities of a text, as one line: what a file of predictions holds, and the metric reads."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from preprocess.base.errors import DataError
from preprocess.tags import chunks

#: No text has more characters than nine digits can count, and Python refuses to convert thousands of them.
_HEAD = re.compile(r"(\S+) ([0-9]{1,9})-([0-9]{1,9}) ")
_BETWEEN = "; "
_TAG = re.compile(r"O|[BIES]-\S+")


class Entity(NamedTuple):
    """A piece of a text: its type, its first code point, and one past its last."""

    type: str
    char_start: int
    char_end: int


def entities_text(context: str, entities: Iterable[Entity]) -> str:
    """Return `LOC 0-2 北京; PER 5-7 张三`: type and half-open place of each, and what stands there."""
    return _BETWEEN.join(f"{kind} {start}-{end} {context[start:end]}" for kind, start, end in entities)


def read_entities(id: str, text: str, n_characters: int) -> list[Entity]:
    """Read what `entities_text` writes; or a tag for each character, with blanks or U+0002 between them.

    Args:
        id: of the example, for a message.
        text: as it stands in a file of predictions.
        n_characters: of the example's text.

    Raises:
        DataError: if it is neither, or an entity stands outside of the text.
    """
    text = text.strip()
    tags = text.replace("\x02", " ").split(" ")
    if text and all(map(_TAG.fullmatch, tags)):
        if len(tags) == n_characters:
            return [Entity(*chunk) for chunk in chunks(tags)]
        raise DataError(f"{id!r} has {len(tags)} tags; one for each of its {n_characters} characters was expected")
    found: list[Entity] = []
    place = 0
    while place < len(text):
        match = _HEAD.match(text, place)
        if match is None:
            raise DataError(
                f"{id!r} has {text[place : place + 40]!r}; entities like 'LOC 0-2 北京; PER 5-7 张三' were expected, "
                "or a tag for each character"
            )
        found.append(Entity(match[1], int(match[2]), int(match[3])))
        if not found[-1].char_start < found[-1].char_end <= n_characters:
            raise DataError(
                f"{id!r} has the place {match[2]}-{match[3]}; a start before its end was expected, and the end "
                f"within the {n_characters} characters of its text"
            )
        # The text itself may hold anything; its length is known.
        place = match.end() + found[-1].char_end - found[-1].char_start + len(_BETWEEN)
    return found
