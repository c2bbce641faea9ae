"""The points of an optimizer step at which methods attach."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from pytorch_modeling.model import MRCModel
    from pytorch_modeling.trainer import Trainer

#: Gradients by the framework-neutral names of their parameters, times the loss scale.
Gradients = dict[str, Tensor]


class TrainerHook:
    """What is attached to a trainer. Each point does nothing unless a subclass says otherwise."""

    #: How many times a step computes each window, each time with other dropout; the mean of the losses counts.
    n_passes = 1
    #: Soft columns of a batch that its loss is made of beside the outputs' own: name -> number of axes.
    soft_columns: Mapping[str, int] = {}

    def prepare(self, model: MRCModel) -> None:
        """Change the model, before its optimizer is built; called where a trainer makes its hooks itself."""

    def attach(self, trainer: Trainer) -> None:
        """Make what it needs, before the first step."""

    def added_loss(
        self,
        trainer: Trainer,
        passes: Sequence[Mapping[str, Tensor]],
        batch: Mapping[str, Tensor],
        n_targets: Mapping[str, int],
    ) -> Tensor | None:
        """Return what is added to a batch's part of the loss.

        Args:
            trainer: whose step it is.
            passes: the values of each pass over the batch, see `Outputs`.
            batch: inputs and targets, as for `objective`.
            n_targets: what has a target in all batches of the step, of each projection.
        """
        return None

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

    def evaluating(self, trainer: Trainer) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the model is evaluated, and saved."""
        return contextlib.nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what it needs to go on from here: nested dicts of numpy arrays and numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of another one of its kind."""
