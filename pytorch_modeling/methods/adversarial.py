"""Training against perturbed word embeddings: FGM (Miyato et al. 2017) and PGD (Madry et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pytorch_modeling.distribute import whole
from pytorch_modeling.hooks import Gradients, TrainerHook

if TYPE_CHECKING:
    from pytorch_modeling.trainer import Trainer

_TABLE = "embeddings.word.weight"


class PGD(TrainerHook):
    """Adds the gradients at word embeddings that steps along theirs have moved; with one step it is FGM.

    From r_0 = 0, step k moves the table by r_k = P(r_(k-1) + alpha g_k / ||g_k||), where g_k is the gradient of the
    table as it is before, and P shrinks what is longer than epsilon to that length. The gradients at the table that
    the last step leaves are added to those of the table as it was.
    """

    def __init__(self, epsilon: float, *, alpha: float, n_steps: int) -> None:
        """Take the radius, the length of a step, and how many steps there are."""
        self.epsilon = epsilon
        self.alpha = alpha
        self.n_steps = n_steps

    def after_backward(self, trainer: Trainer, gradients: Gradients, again: Callable[[], Gradients]) -> Gradients:
        """Return the sum of the gradients at the embeddings, and of those at the moved ones."""
        table = trainer.model.encoder.embeddings.word.weight
        before = table.detach().clone()
        moved, perturbed = None, gradients
        for _ in range(self.n_steps):
            with torch.no_grad():
                moved = self._step(moved, trainer.summed(perturbed[_TABLE]))
                table.add_(moved)
            try:
                perturbed = again()
            finally:
                with torch.no_grad():
                    table.copy_(before)
        return {name: gradient.add_(perturbed[name]) for name, gradient in gradients.items()}

    def _step(self, moved: Tensor | None, gradient: Tensor) -> Tensor:
        step = gradient * _ratio(self.alpha, gradient)
        moved = step if moved is None else moved.add_(step)
        return moved.mul_(_ratio(self.epsilon, moved).clamp(max=1.0))


def _ratio(length: float, tensor: Tensor) -> Tensor:
    """Return by what a tensor is to be multiplied so that it has a length; 0 if it is 0."""
    norm = whole(tensor.norm())
    return torch.where(norm > 0, length / norm, 0.0)
