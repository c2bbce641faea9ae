"""ALBERT (Lan et al. 2020): layers share their parameters; Google's, brightmart's and transformers' variants."""

from __future__ import annotations

from collections.abc import Iterable

from pretrained_configs.config import ModelConfig
from pretrained_configs.families.albert import layer_order
from tf_modeling.encoder import Encoder
from tf_modeling.layers import TransformerLayer


class AlbertEncoder(Encoder):
    """An encoder whose layers share the parameters of their group."""

    def build_layers(self, config: ModelConfig) -> None:
        """Create one module per inner group of every group that a layer runs through."""
        self.order = layer_order(config)
        used = sorted({group for group, _ in self.order})
        self.groups = {
            str(group): [TransformerLayer(config) for _ in range(config.inner_group_num)] for group in used
        }

    def layer_sequence(self) -> Iterable[TransformerLayer]:
        """Return the shared layers as they run."""
        return (self.groups[str(group)][inner] for group, inner in self.order)


ENCODER = AlbertEncoder
