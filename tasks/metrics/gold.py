"""What all metrics ask of the gold."""

from __future__ import annotations

from collections.abc import Sized

from preprocess.base.errors import DataError


def require_questions(gold: Sized) -> None:
    """Raise DataError where there is nothing to score."""
    if not gold:
        raise DataError("no question to score: the gold file is empty.")
