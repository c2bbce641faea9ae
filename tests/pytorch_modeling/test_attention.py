"""Attention with dropout on the CPU: its formula, gradients, memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from pytorch_modeling.attention import attention
from pytorch_modeling.dropout import keep_mask


def _qkv(dtype, requires_grad=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 2, 6, 4, dtype=dtype, generator=generator).requires_grad_(requires_grad) for _ in range(3)]


def _mask():
    mask = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    mask[1, ..., 4:] = False
    return mask


def test_attention_gradients_match_finite_differences():
    def function(q, k, v):
        torch.manual_seed(5)
        return attention(q, k, v, _mask(), 0.3, training=True)

    assert torch.autograd.gradcheck(function, _qkv(torch.float64))


def test_attention_equals_the_plain_formula_under_the_same_mask():
    q, k, v = _qkv(torch.float64, requires_grad=False)
    torch.manual_seed(5)
    found = attention(q, k, v, _mask(), 0.25, training=True)
    torch.manual_seed(5)
    seed = int(torch.randint(2**62, ()))
    for b in range(2):
        scores = (q[b] @ k[b].transpose(-1, -2) / 2).masked_fill(~_mask()[b], -torch.inf)
        kept = -keep_mask((2, 6, 6), 0.25, seed + b).double()  # -1 where an element is kept
        torch.testing.assert_close(found[b], (scores.softmax(-1) * kept / 0.75) @ v[b])


def test_mean_over_masks_is_attention_without_dropout():
    q, k, v = _qkv(torch.float32, requires_grad=False)
    mean = torch.stack([attention(q, k, v, _mask(), 0.1, training=True) for _ in range(4000)]).mean(0)
    exact = F.scaled_dot_product_attention(q, k, v, attn_mask=_mask())
    # One output's standard deviation is at most about 0.6 here; 4000 draws bring it to 0.01.
    assert (mean - exact).abs().max() < 0.05


def test_no_s_by_s_tensor_is_kept_for_backward():
    saved: list[torch.Size] = []

    def pack(tensor):
        saved.append(tensor.shape)
        return tensor

    q, k, v = (torch.randn(2, 2, 64, 8, requires_grad=True) for _ in range(3))
    mask = torch.ones(2, 1, 1, 64, dtype=torch.bool)
    for p in (0.0, 0.1):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            attention(q, k, v, mask, p, training=True)
    assert saved
    assert not [shape for shape in saved if list(shape[-2:]) == [64, 64]]
