"""Hidden states that are to be like a teacher's (Jiao et al. 2020, TinyBERT, equation 8)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from preprocess.base.methods import STATE_SHARES, STATES
from preprocess.types import soft_name
from pretrained_configs.draws import fresh
from pytorch_modeling.hooks import TrainerHook
from pytorch_modeling.model import MRCModel, parameter_name

if TYPE_CHECKING:
    from pytorch_modeling.trainer import Trainer


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
        model.head[STATES] = nn.Linear(model.config.hidden_size, self.width, device="meta").to_empty(
            device=model.device
        )
        named = {parameter_name(f"head.{STATES}.{name}"): p for name, p in model.head[STATES].named_parameters()}
        shapes = {name: tuple(p.shape) for name, p in named.items()}
        for name, values in fresh(shapes, model.config.initializer_range, self.seed).items():
            named[name].data.copy_(torch.from_numpy(values))

    def added_loss(
        self,
        trainer: Trainer,
        passes: Sequence[Mapping[str, Tensor]],
        batch: Mapping[str, Tensor],
        n_targets: Mapping[str, int],
    ) -> Tensor | None:
        """Return the batch's part of the mean over the real tokens of the step, times w."""
        target, shares = batch[soft_name(STATES)], batch[soft_name(STATE_SHARES)]
        parts = [(shares * (values[STATES].float() - target).square().mean(-1)).sum() for values in passes]
        return self.weight * torch.stack(parts).mean()

    @contextlib.contextmanager
    def evaluating(self, trainer: Trainer) -> Iterator[None]:
        """Take the projection out of the model."""
        head = trainer.model.head
        assert head is not None
        projection = head.pop(STATES)
        try:
            yield
        finally:
            head[STATES] = projection
