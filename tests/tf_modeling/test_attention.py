"""Attention with dropout: its formula and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from tf_modeling.attention import attention
from tf_modeling.distances import Distances
from tf_modeling.dropout import keep_mask

SEED = tf.constant([5, 6])


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


@pytest.mark.parametrize("where", [(False, False), (True, False), (False, True)])
def test_distances_and_their_gradients_equal_vectors_for_each_pair_under_the_same_mask(where):
    factor = tf.cast(keep_mask(tf.constant([2, 2, 6, 6]), 0.25, SEED), tf.float32) / 0.75
    random = np.random.RandomState(2)
    inputs = [*_qkv(tf.float32), tf.constant(random.randn(12, 4), tf.float32)]
    weight = tf.constant(random.randn(2, 2, 6, 4), tf.float32)

    def plain(q, k, v, rows):
        a = tf.gather(rows, np.arange(6)[None, :] - np.arange(6)[:, None] + 5)
        scores = tf.matmul(q, k, transpose_b=True) + tf.einsum("bhid,ijd->bhij", q, a)
        if where[0]:
            scores += tf.einsum("bhjd,ijd->bhij", k, a)
        probs = tf.nn.softmax(tf.where(_mask(), scores / 2, -math.inf)) * factor
        return tf.matmul(probs, v) + (tf.einsum("bhij,ijd->bhid", probs, a) if where[1] else 0.0)

    def ours(q, k, v, rows):
        return attention(q, k, v, _mask(), 0.25, SEED, Distances(rows, *where))

    results = []
    for function in (ours, plain):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            out = function(*inputs)
            total = tf.reduce_sum(out * weight)
        results.append([out, *tape.gradient(total, inputs)])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, tf.convert_to_tensor(expected), atol=5e-6)
