"""The points of an optimizer step at which methods attach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from tf_modeling.trainer import Trainer

#: Gradients by the framework-neutral names of their parameters, times the loss scale.
Gradients = dict[str, tf.Tensor]


class TrainerHook:
    """What is attached to a trainer. Each point does nothing unless a subclass says otherwise.

    A step is traced once, in each replica: its points are called with symbolic tensors, make no variables, and set
    those that they have with `distribute.assign`.
    """

    def attach(self, trainer: Trainer) -> None:
        """Make what it needs, before the first step."""

    def after_backward(self, trainer: Trainer, gradients: Gradients, again: Callable[[], Gradients]) -> Gradients:
        """Return the gradients of a batch that the step is to use.

        Args:
            trainer: whose step it is.
            gradients: of the batch.
            again: returns its gradients after another forward and backward pass, of the parameters as they are then.
        """
        return gradients

    def after_update(self, trainer: Trainer) -> None:
        """The parameters have moved."""

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what it needs to go on from here: nested dicts of numpy arrays and numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of another one of its kind."""
