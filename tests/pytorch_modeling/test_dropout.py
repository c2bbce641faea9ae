"""Dropout on the CPU: rate, independence, gradients."""

from __future__ import annotations

import pytest
import torch

from pytorch_modeling.dropout import dropout, keep_mask


def _kept(shape, p, seed):
    """Draw a mask; returns 1.0 where an element is kept."""
    mask = keep_mask(shape, p, seed)
    assert mask.dtype == torch.int16 and set(mask.unique().tolist()) <= {-1, 0}
    return -mask.double()


def test_rate_and_variance_of_the_mask_are_those_of_bernoulli():
    mask = _kept((1000, 1000), 0.1, 0)
    # A mean of 10^6 Bernoulli(0.9) draws has a standard deviation of 0.0003; four of them are allowed.
    assert abs(mask.mean().item() - 0.9) < 0.0012
    assert abs(mask.var().item() - 0.09) < 0.001


def test_neighbours_that_share_a_64_bit_draw_are_independent():
    mask = _kept((250_000, 4), 0.3, 1)
    correlation = torch.corrcoef(mask.T)
    # The correlation of 250,000 independent pairs has a standard deviation of 0.002.
    assert (correlation - torch.eye(4)).abs().max() < 0.008
    lag = torch.corrcoef(torch.stack([mask[:-1, 3], mask[1:, 0]]))[0, 1]
    assert abs(lag) < 0.008


def test_masks_of_neighbouring_seeds_are_independent():
    masks = torch.stack([_kept((250_000,), 0.3, seed) for seed in (7, 8, 9, 2**62)])
    assert (torch.corrcoef(masks) - torch.eye(4)).abs().max() < 0.008
    assert torch.equal(masks[0], _kept((250_000,), 0.3, 7))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 4097])
def test_sizes_that_are_no_multiple_of_four_work(n):
    assert keep_mask((n,), 0.5, 0).shape == (n,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_what_is_kept_keeps_every_bit(dtype):
    x = torch.randn(3, 1000).to(dtype).requires_grad_()
    torch.manual_seed(4)
    y = dropout(x.T, 0.25, training=True)  # of any layout
    torch.manual_seed(4)
    kept = _kept((1000, 3), 0.25, int(torch.randint(2**62, ()))).bool()
    assert torch.equal(y, torch.where(kept, x.T * (1 / 0.75), 0)) and y.dtype == dtype


def test_kept_elements_are_scaled_and_gradients_use_the_same_mask():
    x = torch.full((100_000,), 2.0, requires_grad=True)
    y = dropout(x, 0.1, training=True)
    y.sum().backward()
    assert torch.unique(y).tolist() == [0.0, pytest.approx(2 / 0.9, rel=1e-4)]
    assert torch.equal(x.grad, y.detach() / 2)


def test_nothing_is_dropped_in_evaluation():
    x = torch.randn(50)
    assert dropout(x, 0.5, training=False) is x
