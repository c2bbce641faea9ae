"""What whoever has not read the texts scores: the bar below which a model has learned nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from preprocess.types import Example
from tasks.core.task import Task

#: Metrics that are shares of right answers.
_SHARES = ("accuracy", "qac")
#: Standard errors above its mean that a guess hardly ever reaches: once in forty times.
_ERRORS = 1.96


def share_guessed(examples: Sequence[Example]) -> float | None:
    """Return the share of questions that a guess answers rightly, 0-1; None where it is next to nothing, or unknown.

    A guess is an option, drawn; or always the class that is right most often.

    Args:
        examples: labelled ones are looked at.
    """
    asked = [example for example in examples if example.labelled and example.answers]
    if not asked:
        return None
    if all(example.options for example in asked):
        return math.fsum(1 / len({*example.options}) for example in asked) / len(asked)
    if all(example.answers[0].kind == "class" for example in asked):
        return Counter(example.answers[0].text for example in asked).most_common(1)[0][1] / len(asked)
    return None


def guessing(task: Task, examples: Sequence[Example]) -> dict[str, float]:
    """Return up to what score a guess may come, in percent, by the metric; nothing where that is not known."""
    share = share_guessed(examples)
    if share is None:
        return {}
    most = share + _ERRORS * math.sqrt(share * (1 - share) / len(examples))
    return {metric: 100 * min(1.0, most) for metric in task.selection if metric in _SHARES}
