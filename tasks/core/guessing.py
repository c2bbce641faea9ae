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
    """Return the share of labelled questions that a guess answers rightly; None where next to nothing, or unknown.

    A guess is an option, drawn; or always the class that is right most often.
    """
    asked = _labelled(examples)
    if not asked:
        return None
    if all(example.options for example in asked):
        return math.fsum(1 / len({*example.options}) for example in asked) / len(asked)
    if all(example.answers[0].kind == "class" for example in asked):
        return Counter(example.answers[0].text for example in asked).most_common(1)[0][1] / len(asked)
    return None


def guessing(task: Task, examples: Sequence[Example]) -> dict[str, float]:
    """Return up to what score a guess may come, in percent, by the metric; nothing where it is unknown, or 100."""
    share = share_guessed(examples)
    if share is None:
        return {}
    asked = _labelled(examples)
    # Who draws options may be lucky; the commonest class is right as often as it stands there.
    luck = math.sqrt(share * (1 - share) / len(asked)) if asked[0].options else 0.0
    most = share + _ERRORS * luck
    return {metric: 100 * most for metric in task.selection if metric in _SHARES} if most < 1 else {}


def _labelled(examples: Sequence[Example]) -> list[Example]:
    return [example for example in examples if example.labelled and example.answers]
