"""The task head: span logits, answer-kind logits, and their losses."""

from __future__ import annotations

import math

import tensorflow as tf

from preprocess.types import SPAN_KIND, HeadSpec
from tf_modeling.nn import Linear, Module, Pass


class Head(Module):
    """Start and end logits per position; one logit per non-span answer kind if the task has such kinds."""

    def __init__(self, hidden_size: int, spec: HeadSpec) -> None:
        """Build the projections for `spec`."""
        super().__init__()
        self.span = Linear(hidden_size, 2)
        self.kind = Linear(hidden_size, len(spec.kinds)) if spec.kinds else None

    def call(
        self, sequence_output: tf.Tensor, pooled_output: tf.Tensor | None, run: Pass
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """Score [B, S, H] and [B, H].

        Returns:
            start [B, S], end [B, S], and kind [B, K] or None.
        """
        start, end = tf.unstack(self.span(sequence_output, run=run), axis=-1)
        if self.kind is None:
            return start, end, None
        assert pooled_output is not None, "answer kinds are read from the pooled output"
        return start, end, self.kind(pooled_output, run=run)


def span_loss(start: tf.Tensor, end: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Sum over windows of the mean of start and end cross-entropy.

    Padding takes no part in the softmax, so the loss does not depend on how far a batch is padded. (Google's BERT and
    transformers normalise over padding too; on an unpadded batch all three are the same.)

    Args:
        start: [B, S] logits.
        end: [B, S] logits.
        batch: "attention_mask" [B, S], "start_position" [B], "end_position" [B].

    Returns:
        float32 scalar; divide by the number of windows of the optimizer step.
    """
    real = batch["attention_mask"] != 0
    total = tf.zeros([])
    for logits, target in ((start, batch["start_position"]), (end, batch["end_position"])):
        scores = tf.where(real, tf.cast(logits, tf.float32), -math.inf)
        total += tf.reduce_sum(tf.reduce_logsumexp(scores, axis=1) - tf.gather(scores, target, axis=1, batch_dims=1))
    return total / 2


def kind_loss(kind: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Sum of the kind cross-entropy over windows whose target is no span.

    Args:
        kind: [B, K] logits.
        target: int [B], index of the kind or SPAN_KIND (ignored).

    Returns:
        float32 scalar; divide by the number of counted windows of the optimizer step.
    """
    counted = target != SPAN_KIND
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(counted, target, 0), tf.cast(kind, tf.float32))
    return tf.reduce_sum(tf.where(counted, losses, 0.0))
