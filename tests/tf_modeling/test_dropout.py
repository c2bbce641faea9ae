"""Dropout and attention: rate, independence, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from tf_modeling.dropout import attention, dropout, keep_mask

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


def _qkv(dtype):
    random = np.random.RandomState(0)
    return [tf.constant(random.randn(2, 2, 6, 4), dtype) for _ in range(3)]


def _mask():
    mask = np.ones((2, 1, 1, 6), bool)
    mask[1, ..., 4:] = False
    return tf.constant(mask)


def _plain(q, k, v, factor):
    scores = tf.where(_mask(), tf.matmul(q, k, transpose_b=True) / 2, -math.inf)
    return tf.matmul(tf.nn.softmax(scores) * factor, v)


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_attention_and_its_gradients_equal_the_plain_formula_under_the_same_mask(p):
    seed = SEED if p else None
    factor = tf.cast(keep_mask(tf.constant([2, 2, 6, 6]), p, SEED), tf.float32) / (1 - p)
    inputs = _qkv(tf.float32)
    weight = tf.constant(np.random.RandomState(1).randn(2, 2, 6, 4), tf.float32)
    results = []
    for function in (lambda *x: attention(*x, _mask(), p, seed), lambda *x: _plain(*x, factor)):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            out = function(*inputs)
            total = tf.reduce_sum(out * weight)
        results.append([out, *tape.gradient(total, inputs)])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_attention_in_bfloat16_is_close_to_float32():
    exact = attention(*_qkv(tf.float32), _mask(), 0.0, None)
    rounded = attention(*_qkv(tf.bfloat16), _mask(), 0.0, None)
    assert rounded.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(rounded, tf.float32), exact, atol=0.03)
