"""What is added to the loss: label smoothing (Szegedy et al. 2016) and R-Drop's divergence (Liang et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from preprocess.types import NO_TARGET, HeadSpec, Output
from tf_modeling.hooks import TrainerHook
from tf_modeling.objective import best_of_options, competing

if TYPE_CHECKING:
    from tf_modeling.trainer import Trainer


class LabelSmoothing(TrainerHook):
    """Minimises (1 - e) CE + e U for positions, U being the mean of -log p over the tokens that compete.

    That is the cross-entropy with a target that gives the right token 1 - e, and e in equal parts to all of them.
    """

    def __init__(self, share: float) -> None:
        """Take e, in [0, 1)."""
        self.share = share

    def added_loss(
        self,
        trainer: Trainer,
        passes: Sequence[Mapping[str, tf.Tensor]],
        batch: Mapping[str, tf.Tensor],
        n_targets: Mapping[str, tf.Tensor | float],
    ) -> tf.Tensor | None:
        """Return e (U - CE), the mean over the passes."""
        head = trainer.model.head_spec
        assert head is not None
        added = [smoothing(head, values, batch, n_targets) for values in passes]
        return self.share * tf.reduce_mean(tf.stack(added))


class RDrop(TrainerHook):
    """Computes each window twice, and adds alpha times the symmetric divergence of what the two passes say."""

    n_passes = 2

    def __init__(self, alpha: float) -> None:
        """Take alpha."""
        self.alpha = alpha

    def added_loss(
        self,
        trainer: Trainer,
        passes: Sequence[Mapping[str, tf.Tensor]],
        batch: Mapping[str, tf.Tensor],
        n_targets: Mapping[str, tf.Tensor | float],
    ) -> tf.Tensor | None:
        """Return alpha (KL(p || q) + KL(q || p)) / 2."""
        head = trainer.model.head_spec
        assert head is not None
        return self.alpha * divergence(head, passes[0], passes[1], batch, n_targets)


def smoothing(
    head: HeadSpec,
    values: Mapping[str, tf.Tensor],
    batch: Mapping[str, tf.Tensor],
    n_targets: Mapping[str, tf.Tensor | float],
) -> tf.Tensor:
    """Return a batch's part of the mean of U - CE over positions, as `objective` takes means; 0 without positions."""
    total = tf.zeros([])
    for name, outputs in head.projections.items():
        for output in (output for output in outputs if output.loss == "position" and name in n_targets):
            target = batch[output.name]
            logs, counted = _position(output, tf.cast(values[output.name], tf.float32), target, batch)
            right = tf.gather(logs, tf.where(counted, target, 0), axis=1, batch_dims=1)
            n_competing = tf.reduce_sum(tf.cast(competing(output, batch), tf.float32), 1)
            mean = tf.reduce_sum(logs, 1) / tf.maximum(n_competing, 1.0)
            part = tf.reduce_sum(tf.where(counted, right - mean, 0.0))
            total += output.weight * part / len(outputs) / n_targets[name]
    return total


def divergence(
    head: HeadSpec,
    first: Mapping[str, tf.Tensor],
    second: Mapping[str, tf.Tensor],
    batch: Mapping[str, tf.Tensor],
    n_targets: Mapping[str, tf.Tensor | float],
) -> tf.Tensor:
    """Return a batch's part of the mean of (KL(p || q) + KL(q || p)) / 2 over what has a target.

    Args:
        head: the outputs and their losses, which say what is chosen among: tokens, classes, tags, options, pieces.
        first: values of one pass, by their outputs' names.
        second: of the other.
        batch: as for `objective`, and `n_targets` too; means are taken as there.
        n_targets: of each projection.

    Returns:
        float32 scalar.
    """
    total = tf.zeros([])
    for name, outputs in head.projections.items():
        for output in outputs if name in n_targets else ():
            target = batch[output.name]
            p, counted = _LOGS[output.loss](output, tf.cast(first[output.name], tf.float32), target, batch)
            q, _ = _LOGS[output.loss](output, tf.cast(second[output.name], tf.float32), target, batch)
            # (KL(p || q) + KL(q || p)) / 2, element by element; what is not chosen among has log 0 in both.
            parts = (tf.exp(p) - tf.exp(q)) * (p - q) / 2
            if len(parts.shape) > len(counted.shape):
                parts = tf.reduce_sum(parts, -1)
            part = tf.reduce_sum(tf.where(counted, parts, 0.0))
            total += output.weight * part / len(outputs) / n_targets[name]
    return total


def _position(
    output: Output, values: tf.Tensor, target: tf.Tensor, batch: Mapping[str, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return log p of [B, S] positions, 0 for what does not compete, and which windows have a target."""
    there = competing(output, batch)
    # Not -inf: where nothing competes its gradient would not be finite.
    logs = tf.nn.log_softmax(tf.where(there, values, values.dtype.min))
    return tf.where(there, logs, 0.0), target != NO_TARGET


def _class(
    output: Output, values: tf.Tensor, target: tf.Tensor, batch: Mapping[str, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return log p of classes, tags or pieces, the last axis, and what has a target."""
    return tf.nn.log_softmax(values), target != NO_TARGET


def _binary(
    output: Output, values: tf.Tensor, target: tf.Tensor, batch: Mapping[str, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return log p of yes and no, [B, 2], and which windows have a target."""
    return tf.math.log_sigmoid(tf.stack([values, -values], -1)), target != NO_TARGET


def _choice(
    output: Output, values: tf.Tensor, target: tf.Tensor, batch: Mapping[str, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return log p of options at their first windows, else 0, [B], and what is of an example with a right one."""
    there = target != NO_TARGET
    best = tf.where(there, best_of_options(values, target), values.dtype.min)
    same = batch["group"][:, None] == batch["group"][None]
    logs = best - tf.reduce_logsumexp(tf.where(same, best[None], values.dtype.min), 1)
    return tf.where(there, logs, 0.0), tf.reduce_any(same & (target == 1)[None], 1)


_LOGS = {
    "position": _position,
    "class": _class,
    "binary": _binary,
    "tag": _class,
    "choice": _choice,
    "piece": _class,
}
