"""Attention that keeps one S x S tensor, in the operands' type.

TensorFlow has no fused attention: this one has its gradient written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from tf_modeling.distances import Distances
from tf_modeling.dropout import keep_mask, keep_scale


def attention(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    mask: tf.Tensor,
    p: float,
    seed: tf.Tensor | None,
    distances: Distances | None = None,
    added: tf.Tensor | None = None,
) -> tf.Tensor:
    """Scaled dot-product attention with dropout on the probabilities.

    Args:
        q: [B, heads, S, d].
        k: [B, heads, S, d].
        v: [B, heads, S, d].
        mask: bool [B, 1, 1 or S, S], True where a position may be attended to; at least one per row.
        p: dropout probability.
        seed: int32 [2]; None for no dropout.
        distances: what they are multiplied by, and added to, beside each other.
        added: [B, heads, S, S], what is added to the scaled scores; None for nothing.

    Returns:
        [B, heads, S, d]; the softmax computes in float32.
    """
    dtype = q.dtype
    bias = tf.where(mask, tf.zeros([], dtype), tf.constant(-math.inf, dtype))
    root, scale = q.shape[-1] ** -0.5, 1.0 if seed is None else keep_scale(p)

    @tf.custom_gradient
    def function(
        q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, *others: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., tuple[tf.Tensor, ...]]]:
        apart = distances._replace(rows=others[0]) if distances is not None else None
        q = q * tf.cast(root, dtype)
        scores = tf.cast(tf.matmul(q, k, transpose_b=True) + bias, tf.float32)
        if apart is not None:
            scores += tf.cast(apart.scores(q, k * tf.cast(root, dtype)), tf.float32)
        if added is not None:
            scores += tf.cast(others[-1], tf.float32)
        # What is dropped has its sign flipped: one tensor holds the probabilities and the mask.
        signed = tf.cast(tf.nn.softmax(scores), dtype)
        if seed is not None and p > 0.0:
            signed = tf.where(keep_mask(tf.shape(signed), p, seed), signed, -signed)
        out = tf.matmul(tf.nn.relu(signed), v)
        if apart is not None and apart.in_values:
            out += apart.values(tf.nn.relu(signed))
        out *= tf.cast(scale, dtype)

        def gradient(grad: tf.Tensor) -> tuple[tf.Tensor, ...]:
            # With O = (P * M) V, the row sum of P * dP that softmax's gradient needs equals the row sum of O * dO.
            row = tf.reduce_sum(tf.cast(out, tf.float32) * tf.cast(grad, tf.float32), -1, keepdims=True)
            grad = grad * tf.cast(scale, dtype)
            kept = tf.nn.relu(signed)
            dprobs = tf.matmul(grad, v, transpose_b=True)
            drows: tuple[tf.Tensor, ...] = ()
            if apart is not None and apart.in_values:
                to_probs, to_rows = apart.values_gradients(grad, kept)
                dprobs, drows = dprobs + to_probs, (to_rows,)
            dscores = kept * dprobs - tf.abs(signed) * tf.cast(row, dtype)
            dq, dk = tf.matmul(dscores, k), tf.matmul(dscores, q, transpose_a=True)
            if apart is not None:
                to_q, to_k, to_rows = apart.scores_gradients(dscores, q, k * tf.cast(root, dtype))
                dq, drows = dq + to_q, (tf.add_n([to_rows, *drows]),)
                dk = dk if to_k is None else dk + to_k * tf.cast(root, dtype)
            return (
                dq * tf.cast(root, dtype),
                dk,
                tf.matmul(kept, grad, transpose_a=True),
                *drows,
                *([] if added is None else [dscores]),
            )

        return out, gradient

    others = [] if distances is None else [tf.cast(distances.rows, dtype)]
    return function(q, k, v, *others, *([] if added is None else [added]))
