"""Names that a user mistyped."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any


def did_you_mean(name: object, known: Mapping[str, Any] | list[str] | tuple[str, ...]) -> str:
    """Return "; did you mean …?" where a known name is close, and "" elsewhere."""
    close = get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown(what: str, value: object, known: list[str] | tuple[str, ...]) -> str:
    """Return the error for a value that is none of the known ones, with the closest."""
    supported = ", ".join(repr(name) for name in known)
    return f"{what} {value!r} is not supported (supported: {supported}){did_you_mean(value, known)}"
