"""What a seed has counted: with the states of trainer and hooks, all that a training checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from experiment.training.record import Record

#: Metrics that tell windows with an answer from the others: their share, their loss, and that of the others.
APART = ("answered", "loss_answered", "loss_unanswered")


@dataclass
class Progress:
    """How far a seed has come.

    Args:
        step: optimizer steps done.
        n_logged: steps that the lines of the log cover.
        losses: since the last evaluation, per line of the log: how many steps, and their means by name, "loss" and
            those of `APART` where a problem tells windows apart.
        halved_to: windows per forward pass and device, if memory did not suffice for more.
        best_step: step of the best checkpoint; 0 before the first.
        decode: decoding options by which it was evaluated; of several tasks, by task.
        by_task: of several tasks, each one's "best_step" and "decode" by its own rule.
        n_lost: so many of the first evaluations have no checkpoint that could be the best: it was damaged.
        evaluations: as in the Record.
        n_skipped: steps without effect, because the loss or a gradient was not finite.
        warnings: what a reader of the scores should know.
        wall_s: seconds, training and evaluation together.
        counts: of the meter.
    """

    step: int = 0
    n_logged: int = 0
    losses: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    halved_to: int | None = None
    best_step: int = 0
    decode: dict[str, Any] = field(default_factory=dict)
    n_lost: int = 0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    n_skipped: int = 0
    warnings: list[str] = field(default_factory=list)
    wall_s: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)
    by_task: dict[str, dict[str, Any]] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy, as JSON values."""
        state = asdict(self)
        return state if self.by_task else {name: value for name, value in state.items() if name != "by_task"}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Progress:
        """Go on from `state_dict()`."""
        return cls(**state)

    def mean_losses(self) -> dict[str, float]:
        """Return the means of `losses` over all their steps, or over all windows that they are of."""
        share = {"loss_answered": lambda x: x["answered"], "loss_unanswered": lambda x: 1 - x["answered"]}
        means = {}
        for name in ("loss", *APART):
            terms = [(n * share.get(name, lambda _: 1.0)(x), x[name]) for n, x in self.losses if name in x]
            if total := sum(weight for weight, _ in terms):
                means[name] = sum(weight * value for weight, value in terms) / total
        return means

    def enter_into(self, record: Record) -> None:
        """Say in a Record how far the seed has come."""
        record.step = self.best_step
        for name in ("decode", "evaluations", "n_skipped", "warnings", "wall_s"):
            setattr(record, name, getattr(self, name))
