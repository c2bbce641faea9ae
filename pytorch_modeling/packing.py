"""Batches without their padding, for kernels that attend within rows of any length.

Layers transform each token by itself, but for attention. So the real tokens of all rows can go through them as one
row, [1, T, H], and nothing is computed for padding; attention is told where each row begins. The kernel that can is
FlashAttention's (Dao 2023, FlashAttention-2) in half precision, on GPUs of compute capability 8.0 or more.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Packing(NamedTuple):
    """Where the real tokens of a batch [B, S] are; T in all."""

    #: int64 [T], in the batch's rows one after the other.
    places: Tensor
    #: int32 [B + 1], where each row begins among the real tokens, and T.
    starts: Tensor
    #: Real tokens of the longest row.
    longest: int

    def packed(self, x: Tensor) -> Tensor:
        """Return the real tokens of [B, S], [1, T]."""
        return x.reshape(-1)[self.places][None]

    def padded(self, x: Tensor, batch: int, length: int) -> Tensor:
        """Return [1, T, H] as [B, S, H], with zeros for padding."""
        padded = x.new_zeros(batch * length, x.shape[-1])
        return padded.index_copy(0, self.places, x[0]).view(batch, length, -1)


def packing_of(real: Tensor, device: torch.device) -> Packing:
    """Return where tokens are real.

    Args:
        real: bool [B, S], on the CPU if nothing is to wait for the device.
        device: that computes.
    """
    lengths = real.sum(1)
    starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    places = real.reshape(-1).nonzero()[:, 0]
    return Packing(_moved(places, device), _moved(starts, device), int(lengths.max()))


def has_kernel(device: torch.device, head_size: int) -> bool:
    """Whether there is a kernel for rows of any length, under the autocast that is on."""
    return (
        device.type == "cuda"
        and torch.version.hip is None
        and torch.is_autocast_enabled("cuda")
        and torch.get_autocast_dtype("cuda") in (torch.float16, torch.bfloat16)
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and head_size % 8 == 0
        and head_size <= 256
    )


def attend(q: Tensor, k: Tensor, v: Tensor, packing: Packing, p: float) -> Tensor:
    """Attend within rows: q, k, v [1, heads, T, d] -> [1, heads, T, d], with dropout p on the probabilities.

    The kernel draws 8 bits for each probability, so that it drops p up to 1/256.
    """
    q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))
    starts, longest = packing.starts, packing.longest
    # What torch.nn.attention.varlen calls, which has no dropout.
    out = torch.ops.aten._flash_attention_forward(q, k, v, starts, starts, longest, longest, p, False, False)[0]
    return out.transpose(0, 1)[None]


def _moved(x: Tensor, device: torch.device) -> Tensor:
    moves = x.device.type == "cpu" and device.type == "cuda"
    return x.pin_memory().to(device, non_blocking=True) if moves else x.to(device)
