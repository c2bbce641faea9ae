"""BERT (Devlin et al. 2019): also RoBERTa-wwm, MacBERT, LERT, PERT, RBT and ERNIE 1.0."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from pretrained_configs.config import ModelConfig
from pytorch_modeling.encoder import Encoder
from pytorch_modeling.layers import TransformerLayer


class BertEncoder(Encoder):
    """An encoder in which every layer has its own parameters."""

    def build_layers(self, config: ModelConfig) -> None:
        """Create one module per layer."""
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_hidden_layers))

    def layer_sequence(self) -> Iterable[nn.Module]:
        """Return the layers, first to last."""
        return self.layers


ENCODER = BertEncoder
