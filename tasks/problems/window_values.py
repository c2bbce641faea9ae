"""What a model says of windows, in whatever order its batches come -> one value per window, all accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preprocess.base.errors import DataError
from preprocess.types import Outputs


def values_of(name: str, n_windows: int, outputs: Iterable[Outputs]) -> NDArray[np.float32]:
    """Return the values of an output that reads whole windows, float32 [W], or [W, size].

    Args:
        name: of the output.
        n_windows: W.
        outputs: batches that hold every window once, in any order.

    Raises:
        DataError: if values are not finite, or a window is missing or comes twice.
    """
    windows = [np.zeros(0, np.int32)]
    values: NDArray[np.float32] | None = None
    for batch in outputs:
        window, part = np.asarray(batch.window), batch.values[name]
        windows.append(window)
        check_finite(part, window)
        if values is None:
            values = np.zeros((n_windows, *part.shape[1:]), np.float32)
        values[window] = part
    check_each_once(windows, n_windows)
    return np.zeros(0, np.float32) if values is None else values


def check_finite(logits: NDArray[np.floating], windows: ArrayLike) -> None:
    """Raise DataError if a logit of a window is not finite.

    Args:
        logits: [n, …], of n windows.
        windows: [n], their numbers.
    """
    finite = np.isfinite(logits.reshape(len(logits), -1)).all(axis=1)
    if not finite.all():
        raise DataError(
            f"window {np.asarray(windows)[np.argmin(finite)]}: a logit is not finite: the model has diverged or "
            "overflowed; lower the learning rate or use float32."
        )


def check_each_once(windows: Sequence[NDArray[np.integer]], n_windows: int) -> None:
    """Raise DataError unless batches of windows hold each of `n_windows` once."""
    seen = np.bincount(np.concatenate(windows), minlength=n_windows)
    if not (seen == 1).all():
        wrong = int(np.argmax(seen != 1))
        raise DataError(
            f"window {wrong} has logits {seen[wrong]} times; every window must be predicted exactly once."
        )
