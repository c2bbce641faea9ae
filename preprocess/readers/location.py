"""Where an answer stands: the stated start in one unit or the other, else the nearest occurrence."""

from __future__ import annotations

import re
from typing import Literal

from preprocess.readers.report import Problem
from preprocess.text.offsets import nearest_occurrence, utf16_to_codepoint

OffsetUnit = Literal["codepoint", "utf16"]

#: No text is longer, and Python refuses to convert thousands of digits.
_DIGITS = re.compile(r"\s*([+-]?\d{1,18})(?:\.0*)?\s*")


def locate(context: str, text: str, start: int | None, offset_unit: OffsetUnit) -> tuple[int, str | None]:
    """Find the place of an answer.

    Args:
        context: the context as published.
        text: the answer as published.
        start: the stated `answer_start`; None or negative where none is known.
        offset_unit: what `start` is supposed to count.

    Returns:
        The code point where the answer starts (-1: it does not occur), and the kind of note (None: as stated).
    """
    if not text:
        return -1, "answer_empty"
    stated = -1
    if start is not None and start >= 0:
        readings: dict[str, int | None] = {"codepoint": start, "utf16": utf16_to_codepoint(context, start)}
        reading, other = readings.pop(offset_unit), readings.popitem()
        if reading is not None and context.startswith(text, reading):
            return reading, None
        if other[1] is not None and context.startswith(text, other[1]):
            return other[1], f"answer_start_{other[0]}"
        stated = start if reading is None else reading
    char_start = context.find(text) if stated < 0 else nearest_occurrence(context, text, stated)
    if char_start < 0:
        return -1, "answer_not_in_context"
    return char_start, "searched" if stated < 0 else "relocated"


def location_problem(
    id: str, kind: str, context: str, text: str, start: int | None, char_start: int
) -> Problem | None:
    """Say in words where an answer was found instead of at its start; None if it had no start to differ from."""
    if kind == "searched" and start is None:  # the original layout: no answer has a start
        return None
    found = "no start"
    if start is not None and start >= 0:
        found = f"{context[start : start + len(text)]!r} at char {start}"
    remedy = f"it is at {char_start}" if char_start >= 0 else "kept without a place (scored, never trained on)"
    return Problem(id, kind, found, f"answer {text!r}", remedy)


def as_offset(value: object) -> int | None:
    """Return the number that an `answer_start` states, also as a float or as a string of digits; None for others."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    digits = _DIGITS.fullmatch(value) if isinstance(value, str) else None
    return int(digits[1]) if digits is not None else None
