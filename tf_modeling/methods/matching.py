"""Hidden states that are to be like a teacher's (Jiao et al. 2020, TinyBERT, equation 8)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from preprocess.base.methods import STATE_SHARES, STATES
from preprocess.types import soft_name
from pretrained_configs.draws import fresh
from tf_modeling.hooks import TrainerHook
from tf_modeling.model import MRCModel, parameters
from tf_modeling.nn import Linear

if TYPE_CHECKING:
    from tf_modeling.trainer import Trainer


class MatchedStates(TrainerHook):
    """Adds w |W h + b - t|^2 / n for each token, h being its last state, and t that of a teacher, n wide.

    W and b are learned, and are no part of the model where it is evaluated or saved.
    """

    soft_columns = {STATES: 3, STATE_SHARES: 2}

    def __init__(self, weight: float, width: int, seed: int) -> None:
        """Take w and n, and the seed of W."""
        self.weight = weight
        self.width = width
        self.seed = seed

    def prepare(self, model: MRCModel) -> None:
        """Put the projection beside those of the head."""
        assert model.head is not None
        with model.placed():
            model.head.projections[STATES] = Linear(model.config.hidden_size, self.width)
        named = {name: p for name, p in parameters(model).items() if name.startswith(f"head.{STATES}.")}
        shapes = {name: p.shape for name, p in named.items()}
        for name, values in fresh(shapes, model.config.initializer_range, self.seed).items():
            named[name].assign(values)

    def added_loss(
        self,
        trainer: Trainer,
        passes: Sequence[Mapping[str, tf.Tensor]],
        batch: Mapping[str, tf.Tensor],
        n_targets: Mapping[str, tf.Tensor | float],
    ) -> tf.Tensor | None:
        """Return the batch's part of the mean over the real tokens of the step, times w."""
        target, shares = batch[soft_name(STATES)], batch[soft_name(STATE_SHARES)]
        squares = [tf.square(tf.cast(values[STATES], tf.float32) - target) for values in passes]
        parts = [tf.reduce_sum(shares * tf.reduce_mean(square, -1)) for square in squares]
        return self.weight * tf.reduce_mean(tf.stack(parts))

    @contextlib.contextmanager
    def evaluating(self, trainer: Trainer) -> Iterator[None]:
        """Take the projection out of the model."""
        head = trainer.model.head
        assert head is not None
        projection = head.projections.pop(STATES)
        try:
            yield
        finally:
            head.projections[STATES] = projection
