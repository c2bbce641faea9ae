"""ALBERT (Lan et al. 2020): layers share their parameters; Google's, brightmart's and transformers' variants."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from pretrained_configs.config import ModelConfig
from pretrained_configs.families.albert import layer_order
from pytorch_modeling.encoder import Encoder
from pytorch_modeling.layers import TransformerLayer


class AlbertEncoder(Encoder):
    """An encoder whose layers share the parameters of their group."""

    def build_layers(self, config: ModelConfig) -> None:
        """Create one module per inner group of every group that a layer runs through."""
        self.order = layer_order(config)
        used = sorted({group for group, _ in self.order})
        inner = range(config.inner_group_num)
        self.groups = nn.ModuleDict(
            {str(group): nn.ModuleList(TransformerLayer(config) for _ in inner) for group in used}
        )

    def layer_sequence(self) -> Iterable[nn.Module]:
        """Return the shared layers as they run."""
        groups = {int(name): list(group.children()) for name, group in self.groups.items()}
        return (groups[group][inner] for group, inner in self.order)


ENCODER = AlbertEncoder
