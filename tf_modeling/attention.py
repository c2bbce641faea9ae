"""Attention that keeps one S x S tensor, in the operands' type.

TensorFlow has no fused attention: this one has its gradient written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from tf_modeling.dropout import keep_mask, keep_scale


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
    root, scale = q.shape[-1] ** -0.5, 1.0 if seed is None else keep_scale(p)

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
