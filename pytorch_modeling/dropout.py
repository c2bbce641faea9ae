"""Dropout that is cheap on a CPU.

PyTorch draws one Bernoulli number per element there. Here a 64-bit draw serves four elements (16 bits each), and a
mask is all or no bits of an element, so that an AND applies it. On other devices PyTorch's own fused kernel is used.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_LEVELS = 1 << 16
#: Bytes of an element -> integers as wide.
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


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


def drop_(x: Tensor, mask: Tensor) -> Tensor:
    """Set to 0, in place, what a mask drops."""
    x.view(_BITS[x.element_size()]).bitwise_and_(mask)
    return x


def drop_seeded_(x: Tensor, p: float, seed: int) -> Tensor:
    """Set to 0, in place, what the mask of a seed drops; on one device it is the same for tensors of one shape."""
    if p == 0.0:
        return x
    if x.device.type == "cpu":
        return drop_(x, keep_mask(tuple(x.shape), p, seed))
    generator = torch.Generator(x.device).manual_seed(seed)
    kept = torch.empty(x.shape, device=x.device).bernoulli_(1 / keep_scale(p), generator=generator)
    return x.mul_(kept)


def draw_seed() -> int:
    """Draw the seed of a mask from PyTorch's own generator of the CPU, whose state a training checkpoint holds."""
    return int(torch.randint(2**62, ()))


def keep_scale(p: float) -> float:
    """Return what the elements that are kept are multiplied by, so that the mean stays: 1 / (1 - p)."""
    return _LEVELS / (_LEVELS - _threshold(p))


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask = keep_mask(tuple(x.shape), p, draw_seed())
        ctx.save_for_backward(mask.to(torch.int8))
        ctx.scale = keep_scale(p)
        return drop_(x.mul(ctx.scale), mask)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return drop_(grad[0].mul(ctx.scale), mask), None


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Drop elements of x with probability p and scale the rest by 1 / (1 - p), when training."""
    if not training or p == 0.0:
        return x
    return _Dropout.apply(x, p) if x.device.type == "cpu" else F.dropout(x, p)
