"""BERT (Devlin et al. 2019): also RoBERTa-wwm, MacBERT, RBT and every other checkpoint of BERT's architecture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretrained_configs.config import ModelConfig
from pytorch_modeling.layers import Embeddings, TransformerLayer, position_ids


class BertEncoder(nn.Module):
    """Embeddings and layers; with a pooler for tasks that read the first token's pooled output."""

    def __init__(self, config: ModelConfig, *, pooled: bool) -> None:
        """Build an encoder; its weights are PyTorch's defaults until initialised or loaded."""
        super().__init__()
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_hidden_layers))
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooled else None

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        hidden_states: list[Tensor] | None = None,
    ) -> Tensor:
        """Encode a batch.

        Args:
            input_ids: int [B, S].
            attention_mask: int [B, S], 1 = real token, at least one per row.
            token_type_ids: int [B, S].
            hidden_states: if given, the embedding output and every layer's output are appended to it.

        Returns:
            [B, S, H], the last layer's output.
        """
        x = self.embeddings(input_ids, token_type_ids, position_ids(attention_mask))
        mask = attention_mask.bool()[:, None, None, :]
        if hidden_states is not None:
            hidden_states.append(x)
        for layer in self.layers:
            x = layer(x, mask)
            if hidden_states is not None:
                hidden_states.append(x)
        return x

    def pool(self, sequence_output: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool [B, S, H] at each row's first real token -> [B, H]."""
        assert self.pooler is not None, "this encoder was built without a pooler"
        first = attention_mask.to(torch.int32).argmax(dim=1)
        rows = torch.arange(len(first), device=first.device)
        return torch.tanh(self.pooler(sequence_output[rows, first]))
