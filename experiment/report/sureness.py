"""How well the probabilities of answers tell right from wrong, as `evaluate` prints and keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tasks.core.prediction import Score
from tasks.metrics.calibration import exact_of, log_loss, reliability, risk_coverage

#: Shares of the questions that are answered, the surest first.
COVERAGES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Sureness:
    """What is said of the probabilities of the answers to a file's questions.

    Args:
        metric: that says whether an answer is right.
        n_known: answers whose probability is known.
        n_unknown: other questions: without a prediction, or with one that does not stand in its list.
        ece: expected calibration error of the known ones, in percent.
        nll: mean negative log-likelihood of their being right, in nats.
        area: under risk against coverage, in percent, over all questions: the unknown ones come last.
        accuracy: share of the questions that are answered, in percent, surest first -> share of these that is right,
            in percent.
    """

    metric: str
    n_known: int
    n_unknown: int
    ece: float
    nll: float
    area: float
    accuracy: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return it as a file of scores holds it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return it for printing."""
        rows = [("ECE in %", f"{self.ece:.3f}"), ("NLL in nats", f"{self.nll:.4f}")]
        rows.append(("area under risk in %", f"{self.area:.3f}"))
        rows += [(f"{self.metric} of the surest {share} %", f"{value:.3f}") for share, value in self.accuracy.items()]
        if self.n_unknown:
            rows.append(("without a probability", str(self.n_unknown)))
        width = max(len(name) for name, _ in rows) + 2
        return [f"{name:<{width}}{value:>9}" for name, value in rows]


def sureness_of(sure: Mapping[str, float], score: Score) -> Sureness:
    """Compare how sure answers are with how right they are.

    Args:
        sure: question id -> confidence, 0-1, or NaN; a question that is not in it has none.
        score: of the same answers.
    """
    rows = score.per_example
    metric = exact_of(next(iter(rows.values()), {}))
    confidence = np.array([sure.get(id, float("nan")) for id in rows])
    right = np.array([values[metric] for values in rows.values()])
    known = np.isfinite(confidence)
    if not known.any():
        return Sureness(metric, 0, len(rows), 0.0, 0.0, 0.0, {})
    curve = risk_coverage(np.where(known, confidence, -1.0), right)
    return Sureness(
        metric,
        int(known.sum()),
        int((~known).sum()),
        100 * reliability(confidence[known], right[known]).error,
        log_loss(confidence[known], right[known]),
        100 * curve.area,
        {f"{100 * share:g}": 100 * curve.accuracy_at(share) for share in COVERAGES},
    )
