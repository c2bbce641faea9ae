"""Runs, seeds, records and tables around the tasks and the two backends.

What Python programs use (docs/python-api.md) can be had from here, and is imported when it is first asked for:
`from experiment import Reader`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiment.api import (
        Alternative,
        CheckpointError,
        DataError,
        Question,
        Reader,
        Result,
        UsageError,
        Window,
        evaluate,
        leaderboard,
        train,
    )

__all__ = [
    "Alternative",
    "CheckpointError",
    "DataError",
    "Question",
    "Reader",
    "Result",
    "UsageError",
    "Window",
    "evaluate",
    "leaderboard",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
