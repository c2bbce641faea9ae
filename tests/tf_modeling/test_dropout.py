"""Dropout: rate, independence, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tf_modeling.dropout import dropout, keep_mask

SEED = tf.constant([5, 6])


def test_rate_and_variance_of_the_mask_are_those_of_bernoulli():
    mask = keep_mask(tf.constant([1000, 1000]), 0.1, SEED).numpy()
    # A mean of 10^6 Bernoulli(0.9) draws has a standard deviation of 0.0003; four of them are allowed.
    assert abs(mask.mean() - 0.9) < 0.0012


def test_neighbours_that_share_a_64_bit_draw_are_independent():
    mask = keep_mask(tf.constant([250_000, 4]), 0.3, SEED).numpy().astype(float)
    # The correlation of 250,000 independent pairs has a standard deviation of 0.002.
    assert np.abs(np.corrcoef(mask.T) - np.eye(4)).max() < 0.008


def test_masks_of_neighbouring_seeds_are_independent():
    a, b = (keep_mask(tf.constant([250_000]), 0.3, SEED + tf.constant([i, 0])).numpy().astype(float) for i in (0, 1))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.008


@pytest.mark.parametrize("n", [1, 2, 3, 5, 4097])
def test_sizes_that_are_no_multiple_of_four_work(n):
    assert keep_mask(tf.constant([n]), 0.5, SEED).shape == (n,)


def test_kept_elements_are_scaled_and_gradients_use_the_same_mask():
    x = tf.fill([100_000], 2.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = dropout(x, 0.1, SEED)
    assert np.unique(y).tolist() == [0.0, pytest.approx(2 / 0.9, rel=1e-4)]
    assert np.array_equal(tape.gradient(y, x), y / 2)


def test_nothing_is_dropped_without_a_seed():
    x = tf.random.normal([50])
    assert dropout(x, 0.5, None) is x
