"""XLNet's attention, which adds to the scores of contents those of distances and segments (Yang et al. 2019).

The score of query i and key j has a part that depends on their distance, q_i . r_(i-j). Computed for all S queries
and 2 S - 1 distances it would take twice the memory of the scores, before its rows are shifted into place. Here
blocks of rows meet just the distances that they need: S + `_ROWS` columns.
"""

from __future__ import annotations

import tensorflow as tf

from tf_modeling.attention import attention

#: Queries that are computed with the same range of distances.
_ROWS = 64


def relative_attention(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    r: tf.Tensor,
    biases: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    segments: tf.Tensor,
    types: tf.Tensor,
    real: tf.Tensor,
    p: float,
    seed: tf.Tensor | None,
) -> tf.Tensor:
    """Attention by content, distance and segment, with dropout on the probabilities.

    The score of query i and key j is (q_i + c) . k_j + (q_i + p) . r_(i-j) + (q_i + s) . e, over sqrt(d), where e is
    the first row of `segments` if both tokens are of one segment, and else the second.

    Args:
        q: [B, heads, S, d].
        k: [B, heads, S, d].
        v: [B, heads, S, d].
        r: [heads, 2 S - 1, d], the projected encodings of the distances S - 1 … 1 - S.
        biases: c, p and s, [heads, d] each.
        segments: [2, heads, d].
        types: int [B, S], the segment of each token.
        real: bool [B, S], False for padding, which nothing attends to but itself.
        p: dropout probability.
        seed: int32 [2]; None for no dropout.

    Returns:
        [B, heads, S, d]; the softmax computes in float32.
    """
    content, position, segment = (tf.cast(bias, q.dtype)[:, None] for bias in biases)
    # A part of the scores that is the same for all keys changes no probability: the second row less the first counts.
    other = tf.cast(segments[1] - segments[0], q.dtype)[:, None]
    of_others = tf.reduce_sum((q + segment) * other, -1, keepdims=True)
    same = (types[:, :, None] == types[:, None, :])[:, None]
    added = _position_scores(q + position, r) + tf.where(same, tf.zeros([], q.dtype), of_others)
    index = tf.range(tf.shape(real)[1])
    visible = (real[:, None, :] | (index[:, None] == index))[:, None]
    scaled = added * tf.cast(q.shape[-1] ** -0.5, q.dtype)
    return attention(q + content, k, v, visible, p, seed, added=scaled)


def _position_scores(q: tf.Tensor, r: tf.Tensor) -> tf.Tensor:
    """Return q_i . r_(i-j).

    Args:
        q: [B, heads, S, d].
        r: [heads, 2 S - 1, d], of the distances S - 1 … 1 - S.

    Returns:
        [B, heads, S, S].
    """
    b, n_heads, length, width = tf.shape(q)[0], q.shape[1], tf.shape(q)[2], q.shape[3]
    rows = tf.minimum(length, _ROWS)
    n_blocks = (length + rows - 1) // rows
    n_columns = length + rows
    filled = tf.pad(q, [[0, 0], [0, 0], [0, n_blocks * rows - length], [0, 0]])
    blocks = tf.reshape(filled, [b, n_heads, n_blocks, rows, width])
    # A block's first column is a distance more than that of its last query and the first key. What fills up the last
    # block meets distances that do not exist: any will do, as it is cut off below.
    ends = (tf.range(n_blocks) + 1) * rows
    index = length - 1 - ends[:, None] + tf.range(n_columns)
    ranges = tf.gather(r, tf.clip_by_value(index, 0, 2 * length - 2), axis=1)
    by_distance = tf.matmul(blocks, ranges, transpose_b=True)
    # Without the first elements each row, read in rows of one element less, begins one element before the one above.
    flat = tf.reshape(by_distance, [b, n_heads, n_blocks, rows * n_columns])[..., rows:]
    by_key = tf.reshape(flat, [b, n_heads, n_blocks, rows, n_columns - 1])[..., :length]
    return tf.reshape(by_key, [b, n_heads, n_blocks * rows, length])[:, :, :length]
