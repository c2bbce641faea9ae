"""What treats layers by how high they stand: new ones, frozen ones, and each with a learning rate of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pretrained_configs.draws import fresh
from pretrained_configs.levels import levels, n_levels
from pytorch_modeling.hooks import TrainerHook
from pytorch_modeling.model import MRCModel, parameter_name
from pytorch_modeling.optim import scale_rates

if TYPE_CHECKING:
    from pytorch_modeling.trainer import Trainer


class ReinitialisedLayers(TrainerHook):
    """Draws the last layers and the pooler anew (Zhang et al. 2021, Revisiting Few-sample BERT Fine-tuning)."""

    def __init__(self, n: int, seed: int) -> None:
        """Take how many layers, and the seed of the draw."""
        self.n = n
        self.seed = seed

    def prepare(self, model: MRCModel) -> None:
        """Draw them."""
        named = {parameter_name(name): p for name, p in model.named_parameters()}
        top = n_levels(model.config)
        level = levels(model.config, named)
        drawn = {name for name in named if top - self.n < level[name] <= top or name.startswith("pooler.")}
        shapes = {name: tuple(p.shape) for name, p in named.items() if name in drawn}
        with torch.no_grad():
            for name, values in fresh(shapes, model.config.initializer_range, self.seed).items():
                named[name].copy_(torch.from_numpy(values))


class FrozenLayers(TrainerHook):
    """Leaves the embeddings and the first layers as they are; they have no gradients and no optimizer state."""

    def __init__(self, n: int) -> None:
        """Take how many layers."""
        self.n = n

    def prepare(self, model: MRCModel) -> None:
        """Freeze them."""
        freeze(model, self.n)


class LayerwiseRates(TrainerHook):
    """Lets the learning rate fall by a factor from each layer to the one below (Sun et al. 2019, section 5.3.4).

    Head, pooler and last layer have the rate itself, layer l of L that times decay^(L - l), the embeddings decay^L.
    """

    def __init__(self, decay: float) -> None:
        """Take the factor."""
        self.decay = decay

    def attach(self, trainer: Trainer) -> None:
        """Give each parameter its share of the rate."""
        top = n_levels(trainer.model.config)
        level = levels(trainer.model.config, trainer.trained)
        shares = {name: self.decay ** max(0, top - level[name]) for name in trainer.trained}
        scale_rates(trainer.optimizer, trainer.trained, shares)


def freeze(model: MRCModel, up_to: int) -> None:
    """Freeze all parameters up to a level (see `levels`)."""
    named = {parameter_name(name): p for name, p in model.named_parameters()}
    for name, level in levels(model.config, named).items():
        if level <= up_to:
            named[name].requires_grad_(False)
