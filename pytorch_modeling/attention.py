"""Attention that keeps no S x S tensor.

On a CPU PyTorch's attention with dropout falls back to a path that stores the S x S probabilities. Here they are
computed again in backward, and their mask is drawn again from a saved seed. On other devices PyTorch's own fused
kernels are used.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pytorch_modeling.dropout import draw_seed, drop_, keep_mask, keep_scale

_ALL_BUT_CUDNN = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class _DropoutAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(d)) with dropout, times v; one example at a time so that its scores stay in cache."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, p: float) -> Tensor:
        seed, bias, scaled = draw_seed(), _bias(mask, q.dtype), q * q.shape[-1] ** -0.5
        out = torch.empty_like(q)
        for b in range(q.shape[0]):
            probs = _probabilities(scaled[b], k[b], bias[b])
            torch.matmul(drop_(probs, keep_mask(tuple(probs.shape), p, seed + b)), v[b], out=out[b])
        out.mul_(keep_scale(p))
        ctx.save_for_backward(q, k, v, mask, out)
        ctx.p, ctx.seed = p, seed
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, mask, out = ctx.saved_tensors
        root = q.shape[-1] ** -0.5
        grad, bias, scaled = grads[0].to(q.dtype), _bias(mask, q.dtype), q * root
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        # With O = (P * M) V, the row sum of P * dP that softmax's gradient needs equals the row sum of O * dO.
        row = (out.float() * grad.float()).sum(-1, keepdim=True).to(q.dtype)
        grad = grad.mul(keep_scale(ctx.p)).contiguous()
        for b in range(q.shape[0]):
            probs = _probabilities(scaled[b], k[b], bias[b])
            kept = keep_mask(tuple(probs.shape), ctx.p, ctx.seed + b)
            dprobs = drop_(torch.matmul(grad[b], v[b].transpose(-1, -2)), kept)
            dscores = dprobs.sub_(row[b]).mul_(probs)
            torch.matmul(dscores, k[b], out=dq[b])
            torch.matmul(dscores.transpose(-1, -2), scaled[b], out=dk[b])
            torch.matmul(drop_(probs, kept).transpose(-1, -2), grad[b], out=dv[b])
        return dq.mul_(root), dk, dv, None, None


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to the scores: 0 where a position may be attended to, else -inf."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, -torch.inf)


def _probabilities(scaled: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """Return the softmax over the scores of one example: scaled q and k [heads, S, d], bias [1, 1, S]."""
    return torch.softmax(torch.matmul(scaled, k.transpose(-1, -2)).add_(bias), -1)


def _cudnn_is_right(length: int, p: float) -> bool:
    """Whether cuDNN's attention with a mask may be used for this many positions and this rate of dropout.

    At length % 128 == 64 its backward overflows to NaN if all scores of a row are very negative (pytorch#196678). The
    kernel is avoided and not the lengths: padding them to multiples of 128 would cost every layer for the sake of one
    kernel. Some of its kernels round the rate to a multiple of 1/16, which 0.1 is not (pytorch#174245).
    """
    return length % 128 != 64 and 16 * p % 1 == 0


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, p: float, training: bool) -> Tensor:
    """Scaled dot-product attention with dropout on the probabilities.

    Args:
        q: [B, heads, S, d].
        k: [B, heads, S, d].
        v: [B, heads, S, d].
        mask: bool [B, 1, 1, S], True where a position may be attended to; at least one per row.
        p: dropout probability.
        training: dropout is off otherwise.

    Returns:
        [B, heads, S, d]; no S x S tensor is kept for the backward pass.
    """
    p = p if training else 0.0
    if p > 0.0 and q.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):  # the operands' own dtype, in forward as in backward
            return _DropoutAttention.apply(q, k, v, mask, p)
    if q.device.type == "cuda" and not _cudnn_is_right(q.shape[-2], p):
        with sdpa_kernel(_ALL_BUT_CUDNN):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
