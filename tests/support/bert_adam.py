"""BERT's optimizer in float64, from its description: the judge of both implementations."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Rule:
    """One parameter: its value, its rate of decay, and its moments."""

    value: NDArray[np.float64]
    decay: float
    mean: NDArray[np.float64] = field(init=False)
    mean_square: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.mean, self.mean_square = np.zeros_like(self.value), np.zeros_like(self.value)


def apply_rule(rule: Rule, gradient: NDArray[np.float64], rate: float, epsilon: float = 1e-6) -> None:
    """Move a parameter by the moments as they are, and by its decay, both times the learning rate."""
    rule.mean = 0.9 * rule.mean + 0.1 * gradient
    rule.mean_square = 0.999 * rule.mean_square + 0.001 * gradient**2
    direction = rule.mean / (np.sqrt(rule.mean_square) + epsilon)
    rule.value = rule.value - rate * (direction + rule.decay * rule.value)
