"""XLNet's attention, which adds to the scores of contents those of distances and segments (Yang et al. 2019).

The score of query i and key j has a part that depends on their distance, q_i . r_(i-j). Computed for all S queries
and 2 S - 1 distances it would take twice the memory of the scores, before its rows are shifted into place. Here rows
are computed a few at a time, for just the distances that they need, forward and, once more, backward: no S x S tensor
is kept, nor is there ever one of all rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pytorch_modeling.dropout import draw_seed, drop_seeded_, keep_scale

#: Queries of a window whose scores are there at the same time.
_ROWS = 64
#: Scores that are there at the same time on a CPU, where they stay in its cache; elsewhere those of all windows are.
_SCORES = 2**19


@dataclass(frozen=True, slots=True)
class _Scores:
    """What scores are computed from; see `relative_attention`, of whose operands these are."""

    q: Tensor
    k: Tensor
    r: Tensor
    content: Tensor
    position: Tensor
    segment: Tensor
    types: Tensor
    real: Tensor

    def probabilities(self, b: slice, rows: slice) -> Tensor:
        """Return the softmax over the keys for some windows' queries: float32 [n, heads, rows, S]."""
        q, length = self.q[b, :, rows], self.k.shape[2]
        scores = torch.matmul(self.scaled(q, self.content), self.k[b].transpose(-1, -2)).float()
        keys = self.r[:, _distances(rows, length)].transpose(-1, -2)
        by_distance = torch.matmul(self.scaled(q, self.position), keys).contiguous()
        scores += _shifted(by_distance, length)
        scores += self.segment[b, :, rows, None].float().masked_fill(self.same_segment(b, rows), 0.0)
        return scores.masked_fill_(self.hidden(b, rows), -torch.inf).softmax(-1)

    def scaled(self, q: Tensor, bias: Tensor) -> Tensor:
        """Add a bias [heads, d] to queries [n, heads, rows, d], and scale them."""
        return (q + bias[:, None]) * q.shape[-1] ** -0.5

    def same_segment(self, b: slice, rows: slice) -> Tensor:
        """Say which keys are of a query's own segment: bool [n, 1, rows, S]."""
        return (self.types[b, rows, None] == self.types[b, None, :])[:, None]

    def hidden(self, b: slice, rows: slice) -> Tensor:
        """Say which keys a query does not see: bool [n, 1, rows, S]. Each sees itself, also where it is padding."""
        index = torch.arange(self.real.shape[1], device=self.real.device)
        return (~self.real[b, None, :] & (index[rows, None] != index))[:, None]


class _RelativeAttention(torch.autograd.Function):
    """softmax of the scores with dropout, times v."""

    @staticmethod
    def forward(ctx: Any, p: float, v: Tensor, *operands: Tensor) -> Tensor:
        ctx.save_for_backward(v, *operands)
        ctx.p, ctx.seed = p, draw_seed() if p > 0.0 else 0
        scores, out = _Scores(*operands), torch.empty_like(v)
        for n, (b, rows) in enumerate(_parts(v)):
            probs = drop_seeded_(scores.probabilities(b, rows).to(v.dtype), p, ctx.seed + n)
            out[b, :, rows] = torch.matmul(probs, v[b])
        return out.mul_(keep_scale(p))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        v, *operands = ctx.saved_tensors
        scores = _Scores(*operands)
        grad, root = grads[0].to(v.dtype) * keep_scale(ctx.p), v.shape[-1] ** -0.5
        dq, dsegment = torch.empty_like(scores.q), torch.empty_like(scores.segment)
        # What many rows add to is summed in float32.
        dk, dv, dr, dcontent, dposition = (
            torch.zeros_like(x, dtype=torch.float32) for x in (scores.k, v, scores.r, scores.content, scores.position)
        )
        for n, (b, rows) in enumerate(_parts(v)):
            q, seed = scores.q[b, :, rows], ctx.seed + n
            probs = scores.probabilities(b, rows)
            dprobs = torch.matmul(grad[b, :, rows], v[b].transpose(-1, -2)).float()
            drop_seeded_(dprobs, ctx.p, seed)
            dscores = dprobs.sub_((dprobs * probs).sum(-1, keepdim=True)).mul_(probs)
            dsegment[b, :, rows] = dscores.masked_fill(scores.same_segment(b, rows), 0.0).sum(-1)
            dscores = dscores.to(v.dtype)
            kept = drop_seeded_(probs.to(v.dtype), ctx.p, seed)
            dv[b] += torch.matmul(kept.transpose(-1, -2), grad[b, :, rows])
            dk[b] += torch.matmul(dscores.transpose(-1, -2), scores.scaled(q, scores.content))
            by_distance, some = _unshifted(dscores), _distances(rows, v.shape[2])
            dr[:, some] += torch.matmul(by_distance.transpose(-1, -2), scores.scaled(q, scores.position)).sum(0)
            to_content = torch.matmul(dscores, scores.k[b]).mul_(root)
            to_position = torch.matmul(by_distance, scores.r[:, some]).mul_(root)
            dcontent += to_content.sum((0, 2), dtype=torch.float32)
            dposition += to_position.sum((0, 2), dtype=torch.float32)
            dq[b, :, rows] = to_content.add_(to_position)
        summed = (x.to(v.dtype) for x in (dv, dk, dr, dcontent, dposition))
        dv, dk, dr, dcontent, dposition = summed
        return None, dv, dq, dk, dr, dcontent, dposition, dsegment, None, None


def _parts(v: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield the windows and the queries that are computed at a time, for v [B, heads, S, d]."""
    n_windows, n_heads, length, _ = v.shape
    of_a_window = n_heads * min(length, _ROWS) * length
    step = max(1, _SCORES // of_a_window) if v.device.type == "cpu" else n_windows
    for b in range(0, n_windows, step):
        for row in range(0, length, _ROWS):
            yield slice(b, b + step), slice(row, min(row + _ROWS, length))


def _distances(rows: slice, length: int) -> slice:
    """Return which of the distances length - 1 … 1 - length there are between some queries and all keys."""
    return slice(length - rows.stop, 2 * length - 1 - rows.start)


def _shifted(by_distance: Tensor, length: int) -> Tensor:
    """View scores by distance, contiguous [..., rows, length + rows - 1], as scores by key [..., rows, length].

    In it each row begins one element before the one above it.
    """
    *lead, n_rows, _ = by_distance.shape
    *steps, step, _ = by_distance.stride()
    return by_distance.as_strided((*lead, n_rows, length), (*steps, step - 1, 1), n_rows - 1)


def _unshifted(by_key: Tensor) -> Tensor:
    """Turn gradients by key [..., rows, length] into gradients by distance."""
    *lead, n_rows, length = by_key.shape
    by_distance = by_key.new_zeros((*lead, n_rows, length + n_rows - 1))
    _shifted(by_distance, length).copy_(by_key)
    return by_distance


def _in_one_piece(v: Tensor, scores: _Scores) -> Tensor:
    """Compute the same without dropout, by operations that a graph for inputs of any length can hold."""
    length, everything = v.shape[2], slice(None)
    by_distance = torch.matmul(scores.scaled(scores.q, scores.position), scores.r.transpose(-1, -2))
    # With a column before it each row, read in rows of one element less, begins one element before the one above.
    by_key = (
        F.pad(by_distance, (1, 0)).flatten(-2)[..., length:].unflatten(-1, (length, 2 * length - 1))[..., :length]
    )
    summed = torch.matmul(scores.scaled(scores.q, scores.content), scores.k.transpose(-1, -2)) + by_key
    other = ~scores.same_segment(everything, everything)
    summed = summed + other.to(summed.dtype) * scores.segment[..., None]
    summed = summed.float().masked_fill(scores.hidden(everything, everything), -torch.inf)
    return torch.matmul(summed.softmax(-1).to(v.dtype), v)


@torch.compiler.disable
def _in_parts(v: Tensor, scores: _Scores, p: float) -> Tensor:
    operands = (scores.q, scores.k, scores.r, scores.content, scores.position, scores.segment)
    with torch.autocast(v.device.type, enabled=False):  # the operands' own dtype, in forward as in backward
        out: Tensor = _RelativeAttention.apply(p, v, *operands, scores.types, scores.real)
    return out


def relative_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    r: Tensor,
    biases: tuple[Tensor, Tensor, Tensor],
    segments: Tensor,
    types: Tensor,
    real: Tensor,
    p: float,
    training: bool,
) -> Tensor:
    """Attention by content, distance and segment, with dropout on the probabilities.

    The score of query i and key j is (q_i + c) . k_j + (q_i + p) . r_(i-j) + (q_i + s) . e, over sqrt(d), where e is
    the first row of `segments` if both tokens are of one segment, and else the second.

    Args:
        q: [B, heads, S, d].
        k: [B, heads, S, d].
        v: [B, heads, S, d].
        r: [heads, 2 S - 1, d], the projected encodings of the distances S - 1 … 1 - S.
        biases: c, p and s, [heads, d] each.
        segments: [2, heads, d].
        types: int [B, S], the segment of each token.
        real: bool [B, S], False for padding, which nothing attends to but itself.
        p: dropout probability.
        training: dropout is off otherwise.

    Returns:
        [B, heads, S, d]; no S x S tensor is kept for the backward pass.
    """
    # A part of the scores that is the same for all keys changes no probability: the second row less the first counts.
    other = segments[1] - segments[0]
    content, position = (bias.to(q.dtype) for bias in biases[:2])
    own = (biases[2] * other).sum(-1, keepdim=True)
    scores_of_others = (torch.matmul(q, other.to(q.dtype)[..., None]).squeeze(-1) + own) * q.shape[-1] ** -0.5
    scores = _Scores(q, k, r, content, position, scores_of_others, types, real)
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return _in_one_piece(v, scores)
    return _in_parts(v, scores, p if training else 0.0)
