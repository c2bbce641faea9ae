"""NEZHA (Wei et al. 2019): BERT's layers, with sinusoids of the distance in keys and values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pretrained_configs.config import ModelConfig
from pytorch_modeling.families.bert import BertEncoder


class NezhaEncoder(BertEncoder):
    """An encoder that gives all layers the same vectors of the distances between tokens."""

    def build_layers(self, config: ModelConfig) -> None:
        """Create one module per layer."""
        super().build_layers(config)
        self.packs = False
        self.max_relative_position = config.max_relative_position

    def layer_arguments(self, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        """Return which positions may be attended to, and the vectors of distances, [2 S, d]."""
        length, most = attention_mask.shape[1], self.max_relative_position
        distance = torch.arange(1 - length, length + 1, device=attention_mask.device).clamp(-most, most)
        rows = sinusoids(distance + most, self.head_size)
        return (*super().layer_arguments(attention_mask, token_type_ids), rows)


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Return sine and cosine by turns, of frequencies from 1 down to almost 1 / 10000 (Vaswani et al. 2017).

    Args:
        positions: integers [N].
        width: even.

    Returns:
        float32 [N, width].
    """
    rates = torch.exp(torch.arange(0, width, 2, device=positions.device).float() * (-math.log(10000.0) / width))
    angles = positions.float()[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


ENCODER = NezhaEncoder
