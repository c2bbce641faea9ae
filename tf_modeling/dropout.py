"""Dropout that is cheap on a CPU.

A random 64-bit word serves four elements (16 bits each), and all randomness is a function of a seed, so that a
resumed run repeats exactly.
"""

from __future__ import annotations

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


def keep_scale(p: float) -> float:
    """Return what the elements that are kept are multiplied by, so that the mean stays: 1 / (1 - p)."""
    return _LEVELS / (_LEVELS - _threshold(p))


def dropout(x: tf.Tensor, p: float, seed: tf.Tensor | None) -> tf.Tensor:
    """Drop elements of x with probability p and scale the rest by 1 / (1 - p); nothing without a seed."""
    if seed is None or p == 0.0:
        return x
    factor = tf.cast(keep_mask(tf.shape(x), p, seed), x.dtype) * keep_scale(p)
    return x * factor
