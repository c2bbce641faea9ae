"""An exponential moving average of the weights (Polyak & Juditsky 1992; as in Tarvainen & Valpola 2017)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pytorch_modeling.distribute import fill, part, to_array
from pytorch_modeling.hooks import TrainerHook

if TYPE_CHECKING:
    from pytorch_modeling.trainer import Trainer


class EMA(TrainerHook):
    """Keeps s = d s + (1 - d) w of every trained parameter, by which the model is evaluated and saved."""

    def __init__(self, decay: float) -> None:
        """Take d, in [0, 1)."""
        self.decay = decay
        self.average: dict[str, Tensor] = {}

    def attach(self, trainer: Trainer) -> None:
        """Begin with the weights as they are."""
        self.average = {name: p.detach().clone() for name, p in trainer.trained.items()}

    def after_update(self, trainer: Trainer) -> None:
        """Take the weights in."""
        averages, weights = self._parts(trainer)
        torch._foreach_lerp_(averages, weights, 1.0 - self.decay)

    @contextlib.contextmanager
    def evaluating(self, trainer: Trainer) -> Iterator[None]:
        """Let the average and the weights change places."""
        self._swap(trainer)
        try:
            yield
        finally:
            self._swap(trainer)

    def _swap(self, trainer: Trainer) -> None:
        for average, weight in zip(*self._parts(trainer), strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def _parts(self, trainer: Trainer) -> tuple[list[Tensor], list[Tensor]]:
        """Return what this process holds of the average and of the weights."""
        weights = [part(p.detach()) for p in trainer.trained.values()]
        return [part(average) for average in self.average.values()], weights

    def state_dict(self) -> dict[str, Any]:
        """Return the average, by the parameters' names."""
        return {name: to_array(average) for name, average in self.average.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with it."""
        for name, average in self.average.items():
            fill(average, torch.from_numpy(state[name]))
