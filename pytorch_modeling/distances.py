"""What the distance between two tokens adds to attention (Shaw et al. 2018; Huang et al. 2020; Wei et al. 2019).

A pair of tokens has the vector of its distance. A product of all tokens with the vectors of all distances, [S, 2 S],
holds for each row the S numbers of its pairs side by side, one place further to the left from row to row: `_of_pairs`
is that view. No vector is written out for each pair.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Distances(NamedTuple):
    """The vectors of the distances between S tokens, and where they take part.

    Args:
        rows: [2 S, d]; row S - 1 + j - i is that of query i and key j, the last one is that of no pair.
        on_keys: whether keys are multiplied by them too; queries always are.
        in_values: whether they are added to the values too.
    """

    rows: Tensor
    on_keys: bool = False
    in_values: bool = False

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Return what is added to the scores, [..., S, S], of q and k, [..., S, d], each divided by the root of d."""
        scores = _of_pairs(torch.matmul(q, self.rows.T))
        if self.on_keys:
            scores = scores + _of_pairs(torch.matmul(k, _turned(self.rows).T)).transpose(-1, -2)
        return scores

    def values(self, probs: Tensor) -> Tensor:
        """Return what is added to the mean of the values under [..., S, S]: [..., S, d]."""
        return torch.matmul(_by_distance(probs), self.rows)

    def scores_gradients(self, grad: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return the gradients of `scores` [heads, S, S] for q, for k (None if there is none), and for the rows."""
        by_distance = _by_distance(grad)
        rows = torch.matmul(by_distance.flatten(0, 1).T, q.flatten(0, 1))
        if not self.on_keys:
            return torch.matmul(by_distance, self.rows), None, rows
        turned = _by_distance(grad.transpose(-1, -2))
        rows += _turned(torch.matmul(turned.flatten(0, 1).T, k.flatten(0, 1)))
        return torch.matmul(by_distance, self.rows), torch.matmul(turned, _turned(self.rows)), rows

    def values_gradients(self, grad: Tensor, probs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of `values`, [heads, S, d], for the probabilities and for the rows."""
        rows = torch.matmul(_by_distance(probs).flatten(0, 1).T, grad.flatten(0, 1))
        return _of_pairs(torch.matmul(grad, self.rows.T)), rows


def _of_pairs(by_distance: Tensor) -> Tensor:
    """Look at [..., S, 2 S], a column per distance, as [..., S, S], a column per key."""
    s = by_distance.shape[-2]
    return by_distance.flatten(-2)[..., s - 1 : -1].unflatten(-1, (s, 2 * s - 1))[..., :s]


def _by_distance(pairs: Tensor) -> Tensor:
    """Write [..., S, S], a column per key, as [..., S, 2 S], a column per distance: what `_of_pairs` looks at."""
    s = pairs.shape[-1]
    wide = F.pad(pairs, (0, s - 1)).flatten(-2)
    return F.pad(wide, (s - 1, 1)).unflatten(-1, (s, 2 * s))


def _turned(rows: Tensor) -> Tensor:
    """Return the rows in the order in which a key sees the queries; the last one stays that of no pair."""
    return torch.cat([rows[:-1].flip(0), rows[-1:]])
