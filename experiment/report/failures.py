"""Seeds that did not learn: nothing tells but their scores and answers, and none may be averaged away silently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiment.training.record import Record

#: EM in percent, below which a seed is said not to have learned. A published table has 3.08 without remark.
_LOWEST_EM = 5.0


def did_not_learn(values: Mapping[str, float], answers: Mapping[str, Any] | None) -> str:
    """Say why a seed must have failed to train; "" if nothing says so.

    Args:
        values: its scores.
        answers: question id -> answer; None if they are not there.
    """
    all_right = bool(values) and max(values.values()) >= 100  # of a file all of whose answers are one
    if answers is not None and len(answers) > 1 and len(set(map(str, answers.values()))) == 1 and not all_right:
        answer = str(next(iter(answers.values())))
        return f"all {len(answers)} answers are {'empty' if not answer else 'the same'}"
    if "em" in values and values["em"] < _LOWEST_EM:
        return f"EM {values['em']:.2f}"
    return ""


def failure_of(record: Record) -> str:
    """Say that a seed scores on dev as whoever has not read the texts; "" if it scores more, or that is not known."""
    dev = record.scores.get("dev", {})
    return ", ".join(
        f"{metric} {dev[metric]:.2f} on dev, a guess up to {guessed:.2f}"
        for metric, guessed in record.guessing.items()
        if metric in dev and dev[metric] <= guessed
    )
