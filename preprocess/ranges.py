"""Many ranges of integers at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """Return `starts[i], starts[i] + 1, …` (`lengths[i]` of them) for all i one after the other, int64."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - ends + lengths, lengths) + np.arange(total)


def offsets(lengths: Ints) -> Ints:
    """Return where parts of these lengths begin and, last, where they end: int64 [n + 1]."""
    edges = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=edges[1:])
    return edges
