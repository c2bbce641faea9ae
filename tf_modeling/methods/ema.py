"""An exponential moving average of the weights (Polyak & Juditsky 1992; as in Tarvainen & Valpola 2017)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tf_modeling.distribute import assign
from tf_modeling.hooks import TrainerHook

if TYPE_CHECKING:
    from tf_modeling.trainer import Trainer


class EMA(TrainerHook):
    """Keeps s = d s + (1 - d) w of every trained parameter, by which the model is evaluated and saved."""

    def __init__(self, decay: float) -> None:
        """Take d, in [0, 1)."""
        self.decay = decay
        self.average: dict[str, tf.Variable] = {}
        self._parameters: dict[str, Any] = {}

    def attach(self, trainer: Trainer) -> None:
        """Begin with the weights as they are."""
        self._parameters = dict(trainer.trained)
        self.average = {name: tf.Variable(p.variable.value, trainable=False) for name, p in self._parameters.items()}

    def after_update(self, trainer: Trainer) -> None:
        """Take the weights in."""
        for name, average in self.average.items():
            weight = self._parameters[name].variable.value
            assign(average, average + (1.0 - self.decay) * (weight - average))

    @contextlib.contextmanager
    def evaluating(self, trainer: Trainer) -> Iterator[None]:
        """Let the average and the weights change places."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, average in self.average.items():
            variable = self._parameters[name].variable
            kept = variable.value.numpy()
            variable.assign(average.numpy())
            average.assign(kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the average, by the parameters' names."""
        return {name: self._parameters[name].neutral(average).copy() for name, average in self.average.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with it."""
        for name, average in self.average.items():
            average.assign(state[name].T if self._parameters[name].transposed else state[name])
