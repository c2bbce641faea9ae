"""Dropout that is cheap on a CPU, and attention with it that keeps one S x S tensor, in the operands' type.

A random 64-bit word serves four elements (16 bits each), and all randomness is a function of a seed, so that a
resumed run repeats exactly. TensorFlow has no fused attention: this one has its gradient written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

_LEVELS = 1 << 16


def _threshold(p: float) -> int:
    """Return the number of the 2^16 levels that are dropped, so that the rate is p to within 2^-17."""
    return round(p * _LEVELS)


def keep_mask(shape: tf.Tensor, p: float, seed: tf.Tensor) -> tf.Tensor:
    """Draw a keep mask.

    Args:
        shape: int32 [rank], shape of the mask.
        p: probability of an element to be dropped, in [0, 1), rounded to a multiple of 2^-16.
        seed: int32 [2]; the mask is a function of it.

    Returns:
        bool tensor of that shape, True where the element is kept.
    """
    n = tf.reduce_prod(shape)
    words = tf.random.stateless_uniform([(n + 3) // 4], seed, None, None, tf.uint64, alg="philox")
    levels = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:n]
    return tf.reshape(levels >= tf.constant(_threshold(p), tf.uint16), shape)


def _scale(p: float) -> float:
    return _LEVELS / (_LEVELS - _threshold(p))


def dropout(x: tf.Tensor, p: float, seed: tf.Tensor | None) -> tf.Tensor:
    """Drop elements of x with probability p and scale the rest by 1 / (1 - p); nothing without a seed."""
    if seed is None or p == 0.0:
        return x
    factor = tf.cast(keep_mask(tf.shape(x), p, seed), x.dtype) * _scale(p)
    return x * factor


def attention(
    q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, mask: tf.Tensor, p: float, seed: tf.Tensor | None
) -> tf.Tensor:
    """Scaled dot-product attention with dropout on the probabilities.

    Args:
        q: [B, heads, S, d].
        k: [B, heads, S, d].
        v: [B, heads, S, d].
        mask: bool [B, 1, 1, S], True where a position may be attended to; at least one per row.
        p: dropout probability.
        seed: int32 [2]; None for no dropout.

    Returns:
        [B, heads, S, d]; the softmax computes in float32.
    """
    dtype = q.dtype
    bias = tf.where(mask, tf.zeros([], dtype), tf.constant(-math.inf, dtype))
    root, scale = q.shape[-1] ** -0.5, 1.0 if seed is None else _scale(p)

    @tf.custom_gradient
    def function(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) -> tuple[tf.Tensor, Callable[..., tuple[tf.Tensor, ...]]]:
        q = q * tf.cast(root, dtype)
        scores = tf.cast(tf.matmul(q, k, transpose_b=True) + bias, tf.float32)
        # What is dropped has its sign flipped: one tensor holds the probabilities and the mask.
        signed = tf.cast(tf.nn.softmax(scores), dtype)
        if seed is not None and p > 0.0:
            signed = tf.where(keep_mask(tf.shape(signed), p, seed), signed, -signed)
        out = tf.matmul(tf.nn.relu(signed), v) * tf.cast(scale, dtype)

        def gradient(grad: tf.Tensor) -> tuple[tf.Tensor, ...]:
            # With O = (P * M) V, the row sum of P * dP that softmax's gradient needs equals the row sum of O * dO.
            row = tf.reduce_sum(tf.cast(out, tf.float32) * tf.cast(grad, tf.float32), -1, keepdims=True)
            grad = grad * tf.cast(scale, dtype)
            kept = tf.nn.relu(signed)
            dscores = kept * tf.matmul(grad, v, transpose_b=True) - tf.abs(signed) * tf.cast(row, dtype)
            dq = tf.matmul(dscores, k) * tf.cast(root, dtype)
            return dq, tf.matmul(dscores, q, transpose_a=True), tf.matmul(kept, grad, transpose_a=True)

        return out, gradient

    return function(q, k, v)
