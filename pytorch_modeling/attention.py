"""Attention that keeps no S x S tensor.

On a CPU PyTorch's attention with dropout falls back to a path that stores the S x S probabilities. Here they are
computed again in backward, and their mask is drawn again from a saved seed. On other devices PyTorch's own fused
kernels are used. What the distance between tokens adds (`distances.py`) is computed again, too, with all that follows
from it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from pytorch_modeling.distances import Distances
from pytorch_modeling.dropout import draw_seed, drop_, keep_mask, keep_scale
from pytorch_modeling.packing import Packing, attend

_ALL_BUT_CUDNN = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class _CpuAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(d)) with dropout, times v; one example at a time so that its scores stay in cache.

    The last arguments are those of `Distances`; without rows there are none.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, p: float, rows: Tensor | None, *where: bool
    ) -> Tensor:
        root = q.shape[-1] ** -0.5
        seed, bias, scaled = draw_seed() if p > 0.0 else 0, _bias(mask, q.dtype), q * root
        distances = None if rows is None else Distances(rows, *where)
        out = torch.empty_like(q)
        for b in range(q.shape[0]):
            probs = _probabilities(scaled[b], k[b], bias[b], distances, root)
            torch.matmul(_dropped(probs, p, seed + b), v[b], out=out[b])
            if distances is not None and distances.in_values:
                out[b] += distances.values(probs)
        out.mul_(keep_scale(p))
        ctx.save_for_backward(q, k, v, mask, out, rows)
        ctx.p, ctx.seed, ctx.where = p, seed, where
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, out, rows = ctx.saved_tensors
        distances = None if rows is None else Distances(rows, *ctx.where)
        root = q.shape[-1] ** -0.5
        grad, bias, scaled = grads[0].to(q.dtype), _bias(mask, q.dtype), q * root
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        drows = torch.zeros_like(rows) if rows is not None else torch.empty(0)
        # With O = (P * M) V, the row sum of P * dP that softmax's gradient needs equals the row sum of O * dO.
        row = (out.float() * grad.float()).sum(-1, keepdim=True).to(q.dtype)
        grad = grad.mul(keep_scale(ctx.p)).contiguous()
        for b in range(q.shape[0]):
            probs = _probabilities(scaled[b], k[b], bias[b], distances, root)
            dprobs = torch.matmul(grad[b], v[b].transpose(-1, -2))
            kept = keep_mask(tuple(probs.shape), ctx.p, ctx.seed + b) if ctx.p > 0.0 else None
            if distances is not None and distances.in_values:
                seen = probs if kept is None else drop_(probs.clone(), kept)
                to_probs, to_rows = distances.values_gradients(grad[b], seen)
                dprobs += to_probs
                drows += to_rows
            dscores = (dprobs if kept is None else drop_(dprobs, kept)).sub_(row[b]).mul_(probs)
            torch.matmul(dscores, k[b], out=dq[b])
            torch.matmul(dscores.transpose(-1, -2), scaled[b], out=dk[b])
            torch.matmul((probs if kept is None else drop_(probs, kept)).transpose(-1, -2), grad[b], out=dv[b])
            if distances is not None:
                to_q, to_k, to_rows = distances.scores_gradients(dscores, scaled[b], k[b] * root)
                dq[b] += to_q
                drows += to_rows
                if to_k is not None:
                    dk[b].add_(to_k, alpha=root)
        return dq.mul_(root), dk, dv, None, None, drows if rows is not None else None, *(None for _ in ctx.where)


def _dropped(probs: Tensor, p: float, seed: int) -> Tensor:
    """Set to 0, in place, what the mask of a seed drops; without dropout nothing."""
    return drop_(probs, keep_mask(tuple(probs.shape), p, seed)) if p > 0.0 else probs


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to the scores: 0 where a position may be attended to, else -inf."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, -torch.inf)


def _probabilities(scaled: Tensor, k: Tensor, bias: Tensor, distances: Distances | None, root: float) -> Tensor:
    """Return the softmax over the scores of one example: scaled q and k [heads, S, d], bias [1, 1, S]."""
    scores = torch.matmul(scaled, k.transpose(-1, -2)).add_(bias)
    if distances is not None:
        scores += distances.scores(scaled, k * root)
    return torch.softmax(scores, -1)


def _with_distances(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, p: float, rows: Tensor, *where: bool) -> Tensor:
    """Attend in whole tensors: by PyTorch's kernels, unless distances are in the values, for which there are none."""
    root, distances = q.shape[-1] ** -0.5, Distances(rows, *where)
    bias = distances.scores(q * root, k * root) + bias
    if not distances.in_values:
        # cuDNN's kernel gives no gradient for what is added to the scores.
        with sdpa_kernel(_ALL_BUT_CUDNN) if q.device.type == "cuda" else contextlib.nullcontext():
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=p)
    probs = F.dropout(torch.softmax(torch.matmul(q * root, k.transpose(-1, -2)) + bias, -1, q.dtype), p)
    return torch.matmul(probs, v) + distances.values(probs)


def _cudnn_is_right(length: int, p: float) -> bool:
    """Whether cuDNN's attention with a mask may be used for this many positions and this rate of dropout.

    At length % 128 == 64 its backward overflows to NaN if all scores of a row are very negative (pytorch#196678). The
    kernel is avoided and not the lengths: padding them to multiples of 128 would cost every layer for the sake of one
    kernel. Some of its kernels round the rate to a multiple of 1/16, which 0.1 is not (pytorch#174245).
    """
    return length % 128 != 64 and 16 * p % 1 == 0


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | Packing,
    p: float,
    training: bool,
    distances: Distances | None = None,
) -> Tensor:
    """Scaled dot-product attention with dropout on the probabilities.

    Args:
        q: [B, heads, S, d].
        k: [B, heads, S, d].
        v: [B, heads, S, d].
        mask: bool [B, 1, 1, S], True where a position may be attended to; at least one per row. Or, of rows without
            padding, where they are: B is 1 then, and S the tokens of all.
        p: dropout probability.
        training: dropout is off otherwise.
        distances: what they are multiplied by, and added to, beside each other.

    Returns:
        [B, heads, S, d]; no S x S tensor is kept for the backward pass.
    """
    p = p if training else 0.0
    if isinstance(mask, Packing):
        return attend(q, k, v, mask, p)
    if distances is not None:
        distances = distances._replace(rows=distances.rows.to(q.dtype))
    traced = torch.compiler.is_exporting()
    if q.device.type == "cpu" and not traced and (p > 0.0 or distances is not None):
        with torch.autocast("cpu", enabled=False):  # the operands' own dtype, in forward as in backward
            return _CpuAttention.apply(q, k, v, mask, p, *(distances or (None, False, False)))
    if distances is not None:
        arguments = (q, k, v, _bias(mask, q.dtype), p, *distances)
        with torch.autocast(q.device.type, enabled=False):
            if traced or not torch.is_grad_enabled():
                return _with_distances(*arguments)
            return checkpoint(_with_distances, *arguments, use_reentrant=False)
    if q.device.type == "cuda" and not _cudnn_is_right(q.shape[-2], p):
        with sdpa_kernel(_ALL_BUT_CUDNN):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
