"""What every form needs: a text without characters that move the cursor, reverse the line or end it."""

from __future__ import annotations

import unicodedata

#: Unicode categories of what is shown by its code: controls, half pairs, and what changes the direction of writing.
_HIDDEN = {"Cc", "Cs", "Cf"}


def one_line(text: str) -> str:
    """Return a text in one line: blanks for white space, and codes for what can't be seen."""
    return visible(" ".join(text.split()))


def visible(text: str) -> str:
    """Return a text with codes for what can't be seen, line ends among it."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    return repr(character)[1:-1] if unicodedata.category(character) in _HIDDEN else character
