"""What training minimises: the losses of a head's outputs, each kind of loss once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import tensorflow as tf

from preprocess.types import NO_TARGET, HeadSpec, Loss, Output, soft_name


def objective(
    head: HeadSpec,
    values: Mapping[str, tf.Tensor],
    batch: Mapping[str, tf.Tensor],
    n_targets: Mapping[str, tf.Tensor | float],
) -> tf.Tensor:
    """Return a batch's part of the mean loss of an optimizer step.

    The part of each projection is the mean of its outputs' losses over what has a target in the whole step.

    Args:
        head: the outputs and their losses.
        values: of each output, by name; see `Outputs`.
        batch: "attention_mask" and, for a head that asks for it, "answer_mask" [B, S], "group" [B], and the targets
            by their outputs' names; soft ones by their `soft_name`s, float32 [B, S] or [B, K].
        n_targets: what has a target in all batches of the step, of each projection that is learned from.

    Returns:
        float32 scalar.
    """
    total: tf.Tensor | None = None
    for name, outputs in head.projections.items():
        if name not in n_targets:
            continue
        loss = tf.zeros([])
        for output in outputs:
            scores = tf.cast(values[output.name], tf.float32)
            part = _LOSSES[output.loss](output, scores, batch[output.name], batch)
            loss += part if output.weight == 1 else output.weight * part
        loss = loss / len(outputs) / n_targets[name]
        if head.soft is not None and soft_name(name) in n_targets:
            weight, temperature = head.soft.weight, head.soft.temperature
            scores = {o.name: tf.cast(values[o.name], tf.float32) / temperature for o in outputs}
            soft = [o.weight * _soft(o, scores[o.name], batch[soft_name(o.name)], batch) for o in outputs]
            mean = tf.reduce_mean(tf.stack(soft)) / n_targets[soft_name(name)]
            loss = (1 - weight) * loss + weight * temperature**2 * mean
        total = loss if total is None else total + loss
    assert total is not None, "a batch without a target of any output"
    return total


def mean_objective(
    head: HeadSpec,
    passes: Sequence[Mapping[str, tf.Tensor]],
    batch: Mapping[str, tf.Tensor],
    n_targets: Mapping[str, tf.Tensor | float],
) -> tf.Tensor:
    """Return the mean of the `objective`s of several passes over a batch."""
    first, *others = (objective(head, values, batch, n_targets) for values in passes)
    return tf.reduce_mean(tf.stack([first, *others])) if others else first


def repeated(batch: Mapping[str, tf.Tensor], n: int) -> Mapping[str, tf.Tensor]:
    """Return a batch whose rows come n times, one whole batch after the other."""
    return batch if n == 1 else {name: tf.concat([column] * n, 0) for name, column in batch.items()}


def divided(values: Mapping[str, tf.Tensor], n: int) -> list[Mapping[str, tf.Tensor]]:
    """Return the values of each of the n passes that a `repeated` batch stands for."""
    if n == 1:
        return [values]
    parts = {name: tf.split(value, n) for name, value in values.items()}
    return [{name: chunks[i] for name, chunks in parts.items()} for i in range(n)]


def apart(
    head: HeadSpec,
    values: Mapping[str, tf.Tensor],
    batch: Mapping[str, tf.Tensor],
    n_targets: tuple[Mapping[str, tf.Tensor | float], Mapping[str, tf.Tensor | float]],
) -> tf.Tensor:
    """Return a batch's parts of the mean losses of the windows that hold an answer, and of the others.

    Args:
        head: as for `objective`, like the next two.
        values: of each output, by name.
        batch: with "answered" [B], 1 or 0.
        n_targets: what has a target in all batches of the step, of windows that hold an answer, and of the others.

    Returns:
        float32 [2], without a gradient.
    """
    parts = []
    for answered, n in zip((1, 0), n_targets, strict=True):
        counted = batch["answered"] == answered
        targets = {o.name: _of_rows(counted, o.loss, batch[o.name]) for o in head.outputs if o.name in batch}
        parts.append(objective(head, values, {**batch, **targets}, n))
    return tf.stop_gradient(tf.stack(parts))


def competing(output: Output, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Return which tokens a position's softmax goes over, bool [B, S]."""
    return batch["answer_mask" if output.among == "answers" else "attention_mask"] != 0


def best_of_options(values: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Return the best score of an option's windows at its first one; its further ones take no part, and have -inf."""
    first = target != NO_TARGET
    pooled = tf.cumsum(tf.cast(first, tf.int32)) - 1
    best = tf.gather(tf.math.unsorted_segment_max(values, pooled, tf.shape(values)[0]), pooled)
    return tf.where(first, best, -math.inf)


def _of_rows(counted: tf.Tensor, loss: Loss, target: tf.Tensor) -> tf.Tensor:
    """Return the targets [B] or [B, S] of some of the rows; the others have none."""
    # What is chosen among stays there, and nothing of it is right.
    none = tf.minimum(target, 0) if loss == "choice" else NO_TARGET
    return tf.where(counted if len(target.shape) == 1 else counted[:, None], target, none)


def _position(output: Output, values: tf.Tensor, target: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Sum the cross-entropy of [B, S] positions.

    Padding takes no part in the softmax, so the loss does not depend on how far a batch is padded. (Google's BERT and
    transformers normalise over padding too; on an unpadded batch all three are the same.)
    """
    values = tf.where(competing(output, batch), values, -math.inf)
    counted = target != NO_TARGET
    right = tf.gather(values, tf.where(counted, target, 0), axis=1, batch_dims=1)
    return tf.reduce_sum(tf.where(counted, tf.reduce_logsumexp(values, axis=1) - right, 0.0))


def _soft(output: Output, values: tf.Tensor, target: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Sum the cross-entropy of soft targets, [B, S] of positions or [B, K] of classes."""
    if output.loss == "class":
        return -tf.reduce_sum(target * tf.nn.log_softmax(values, axis=1))
    among = competing(output, batch)
    logs = tf.nn.log_softmax(tf.where(among, values, values.dtype.min), axis=1)
    return -tf.reduce_sum(target * tf.where(among, logs, 0.0))


def _class(output: Output, values: tf.Tensor, target: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Sum the cross-entropy of [B, K] classes."""
    return _cross_entropy(values, target)


def _binary(output: Output, values: tf.Tensor, target: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Sum the cross-entropy of [B] logarithms of odds."""
    labels = tf.cast(tf.maximum(target, 0), values.dtype)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, values)
    return tf.reduce_sum(tf.where(target != NO_TARGET, losses, 0.0))


def _tag(output: Output, values: tf.Tensor, target: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Sum the cross-entropy of [B, S, K] tags over the tokens that have a target."""
    return _cross_entropy(values, target)


def _piece(output: Output, values: tf.Tensor, target: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Sum the cross-entropy of the vocabulary's pieces, [B, P, V], over the places that have a target."""
    return _cross_entropy(values, target)


def _cross_entropy(values: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    counted = target != NO_TARGET
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(counted, target, 0), values)
    return tf.reduce_sum(tf.where(counted, losses, 0.0))


def _choice(output: Output, values: tf.Tensor, target: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Sum, over the examples with a right option, the cross-entropy of their options, of [B] windows in all."""
    n = tf.shape(values)[0]
    values = best_of_options(values, target)
    ids = batch["group"]
    group = tf.cumsum(tf.cast(tf.concat([ids[:1] * 0, tf.cast(ids[1:] != ids[:-1], ids.dtype)], 0), tf.int32))
    largest = tf.stop_gradient(tf.gather(tf.math.unsorted_segment_max(values, group, n), group))
    sums = tf.gather(tf.math.unsorted_segment_sum(tf.exp(values - largest), group, n), group)
    return tf.reduce_sum(tf.where(target == 1, tf.math.log(sums) + largest - values, 0.0))


_LOSSES = {
    "position": _position,
    "class": _class,
    "binary": _binary,
    "tag": _tag,
    "choice": _choice,
    "piece": _piece,
}
