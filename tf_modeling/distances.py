"""What the distance between two tokens adds to attention (Shaw et al. 2018; Huang et al. 2020; Wei et al. 2019).

A pair of tokens has the vector of its distance. A product of all tokens with the vectors of all distances, [S, 2 S],
holds for each row the S numbers of its pairs side by side, one place further to the left from row to row: `_of_pairs`
takes them out. No vector is written out for each pair.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Distances(NamedTuple):
    """The vectors of the distances between S tokens, and where they take part.

    Args:
        rows: [2 S, d]; row S - 1 + j - i is that of query i and key j, the last one is that of no pair.
        on_keys: whether keys are multiplied by them too; queries always are.
        in_values: whether they are added to the values too.
    """

    rows: tf.Tensor
    on_keys: bool = False
    in_values: bool = False

    def scores(self, q: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
        """Return what is added to the scores, [B, heads, S, S], of q and k, each divided by the root of d."""
        scores = _of_pairs(_product(q, self.rows, transposed=True))
        if self.on_keys:
            scores += tf.linalg.matrix_transpose(_of_pairs(_product(k, _turned(self.rows), transposed=True)))
        return scores

    def values(self, probs: tf.Tensor) -> tf.Tensor:
        """Return what is added to the mean of the values under [B, heads, S, S]: [B, heads, S, d]."""
        return _product(_by_distance(probs), self.rows)

    def scores_gradients(
        self, grad: tf.Tensor, q: tf.Tensor, k: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor]:
        """Return the gradients of `scores` for q, for k (None if there is none), and for the rows."""
        by_distance = _by_distance(grad)
        rows = _sum_of_products(by_distance, q)
        if not self.on_keys:
            return _product(by_distance, self.rows), None, rows
        turned = _by_distance(tf.linalg.matrix_transpose(grad))
        rows += _turned(_sum_of_products(turned, k))
        return _product(by_distance, self.rows), _product(turned, _turned(self.rows)), rows

    def values_gradients(self, grad: tf.Tensor, probs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the gradients of `values` for the probabilities and for the rows."""
        to_probs = _of_pairs(_product(grad, self.rows, transposed=True))
        return to_probs, _sum_of_products(_by_distance(probs), grad)


def _product(x: tf.Tensor, rows: tf.Tensor, transposed: bool = False) -> tf.Tensor:
    """Multiply [B, heads, S, n] by a matrix in one product."""
    shape = tf.concat([tf.shape(x)[:-1], [-1]], 0)
    return tf.reshape(tf.matmul(_flat(x), rows, transpose_b=transposed), shape)


def _sum_of_products(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Return the sum over all tokens of the outer products of [B, heads, S, n] and [B, heads, S, m]: [n, m]."""
    return tf.matmul(_flat(x), _flat(y), transpose_a=True)


def _flat(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [-1, tf.shape(x)[-1]])


def _of_pairs(by_distance: tf.Tensor) -> tf.Tensor:
    """Take [B, heads, S, S], a column per key, out of [B, heads, S, 2 S], a column per distance."""
    b, h, s = tf.unstack(tf.shape(by_distance)[:-1])
    flat = tf.reshape(by_distance, [b, h, 2 * s * s])[..., s - 1 : -1]
    return tf.reshape(flat, [b, h, s, 2 * s - 1])[..., :s]


def _by_distance(pairs: tf.Tensor) -> tf.Tensor:
    """Write [B, heads, S, S], a column per key, as [B, heads, S, 2 S], a column per distance."""
    b, h, s = tf.unstack(tf.shape(pairs)[:-1])
    wide = tf.reshape(tf.pad(pairs, [[0, 0], [0, 0], [0, 0], [0, s - 1]]), [b, h, s * (2 * s - 1)])
    return tf.reshape(tf.pad(wide, [[0, 0], [0, 0], [s - 1, 1]]), [b, h, s, 2 * s])


def _turned(rows: tf.Tensor) -> tf.Tensor:
    """Return the rows in the order in which a key sees the queries; the last one stays that of no pair."""
    return tf.concat([rows[-2::-1], rows[-1:]], 0)
