"""Dropout that is cheap on a CPU, and attention with it that keeps no S x S tensor.

PyTorch draws one Bernoulli number per element on a CPU, and its attention with dropout falls back to a path that
stores the S x S probabilities. Here a 64-bit draw serves four elements (16 bits each), a mask is all or no bits of an
element, so that an AND applies it, and attention recomputes the probabilities in backward from a saved seed. On other
devices both use PyTorch's own fused kernels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

_LEVELS = 1 << 16
#: Bytes of an element -> integers as wide.
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}

_ALL_BUT_CUDNN = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def _threshold(p: float) -> int:
    """Return the number of the 2^16 levels that are dropped, so that the rate is p to within 2^-17."""
    return round(p * _LEVELS)


def keep_mask(shape: tuple[int, ...], p: float, seed: int) -> Tensor:
    """Draw a keep mask on the CPU.

    Args:
        shape: shape of the mask.
        p: probability of an element to be dropped, in [0, 1), rounded to a multiple of 2^-16.
        seed: 0 or more; the mask is a function of it.

    Returns:
        int16 tensor of that shape: -1, which is all bits, where the element is kept, else 0.
    """
    n = math.prod(shape)
    words = np.random.SFC64(seed).random_raw((n + 3) // 4).view(np.int16)[:n]
    # In place: PyTorch's comparisons into a tensor of bools take ten times as long.
    return torch.from_numpy(words).ge_(_threshold(p) - _LEVELS // 2).neg_().view(shape)


def _keep(x: Tensor, mask: Tensor) -> Tensor:
    """Set to 0, in place, what a mask drops."""
    x.view(_BITS[x.element_size()]).bitwise_and_(mask)
    return x


def _draw_seed() -> int:
    return int(torch.randint(2**62, ()))


def _scale(p: float) -> float:
    return _LEVELS / (_LEVELS - _threshold(p))


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask = keep_mask(tuple(x.shape), p, _draw_seed())
        ctx.save_for_backward(mask.to(torch.int8))
        ctx.scale = _scale(p)
        return _keep(x.mul(ctx.scale), mask)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return _keep(grad[0].mul(ctx.scale), mask), None


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Drop elements of x with probability p and scale the rest by 1 / (1 - p), when training."""
    if not training or p == 0.0:
        return x
    return _Dropout.apply(x, p) if x.device.type == "cpu" else F.dropout(x, p)


class _DropoutAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(d)) with dropout, times v; one example at a time so that its scores stay in cache."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, p: float) -> Tensor:
        seed, bias, scaled = _draw_seed(), _bias(mask, q.dtype), q * q.shape[-1] ** -0.5
        out = torch.empty_like(q)
        for b in range(q.shape[0]):
            probs = _probabilities(scaled[b], k[b], bias[b])
            torch.matmul(_keep(probs, keep_mask(tuple(probs.shape), p, seed + b)), v[b], out=out[b])
        out.mul_(_scale(p))
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
        grad = grad.mul(_scale(ctx.p)).contiguous()
        for b in range(q.shape[0]):
            probs = _probabilities(scaled[b], k[b], bias[b])
            kept = keep_mask(tuple(probs.shape), ctx.p, ctx.seed + b)
            dprobs = _keep(torch.matmul(grad[b], v[b].transpose(-1, -2)), kept)
            dscores = dprobs.sub_(row[b]).mul_(probs)
            torch.matmul(dscores, k[b], out=dq[b])
            torch.matmul(dscores.transpose(-1, -2), scaled[b], out=dk[b])
            torch.matmul(_keep(probs, kept).transpose(-1, -2), grad[b], out=dv[b])
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
