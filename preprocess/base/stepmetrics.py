"""What optimizer steps cost and how they went: numbers read back from a device -> what a log says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def step_metrics(
    losses: NDArray[np.float64],
    grad_norms: NDArray[np.float64],
    apart: NDArray[np.float64] | None = None,
    n_windows: Sequence[tuple[int, int]] = (),
) -> dict[str, float]:
    """Return means over T steps.

    Args:
        losses: [T], per window.
        grad_norms: [T], before clipping.
        apart: [T, 2], the loss of windows that hold an answer, and of the others; None if they are not told apart.
        n_windows: how many there were of each, T pairs; the loss of none is not read.

    Returns:
        "loss" and "grad_norm", over the steps where they are finite and missing if there is none; "skipped_steps",
        those where one of them is not; and with `apart` "answered", the share of windows that hold an answer, with
        "loss_answered" and "loss_unanswered", missing where there is no such window.
    """
    values = {
        name: float(numbers[np.isfinite(numbers)].mean())
        for name, numbers in (("loss", losses), ("grad_norm", grad_norms))
        if np.isfinite(numbers).any()
    }
    values["skipped_steps"] = float(_skipped(losses, grad_norms).sum())
    if apart is not None:
        n = np.array(n_windows, np.float64)
        values["answered"] = float(n[:, 0].sum() / n.sum())
        for name, numbers, weights in zip(("loss_answered", "loss_unanswered"), apart.T, n.T, strict=True):
            counted = np.isfinite(numbers) & (weights > 0)
            if counted.any():
                values[name] = float(np.average(numbers[counted], weights=weights[counted]))
    return values


def skipped_in_a_row(losses: NDArray[np.float64], grad_norms: NDArray[np.float64], before: int) -> int:
    """Return how many of the last steps in a row had no effect.

    Args:
        losses: [T] of the last steps.
        grad_norms: [T].
        before: how many in a row had none before these.
    """
    taken = np.flatnonzero(~_skipped(losses, grad_norms))
    return len(losses) - 1 - int(taken[-1]) if len(taken) else before + len(losses)


def _skipped(losses: NDArray[np.float64], grad_norms: NDArray[np.float64]) -> NDArray[np.bool_]:
    return ~(np.isfinite(losses) & np.isfinite(grad_norms))
