"""An answer of several spans."""

from __future__ import annotations

from dataclasses import dataclass

from preprocess.types import Answer


@dataclass(frozen=True, slots=True)
class JoinedAnswer(Answer):
    """One annotator's answer of several spans; its text is theirs, joined, and it has no place of its own.

    Args:
        parts: the spans, in file order.
    """

    parts: tuple[Answer, ...] = ()
