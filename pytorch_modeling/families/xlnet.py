"""XLNet (Yang et al. 2019) as it is fine-tuned: one stream, no memory of earlier segments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from pretrained_configs.config import ModelConfig
from pretrained_configs.families.xlnet import inverse_frequencies
from pytorch_modeling.encoder import Encoder
from pytorch_modeling.layers import Dropout, FeedForward
from pytorch_modeling.relative import relative_attention


class Biases(nn.Module):
    """What is added to a query before it meets contents, positions and segments."""

    def __init__(self, width: int) -> None:
        """Make the three vectors."""
        super().__init__()
        self.content = nn.Parameter(torch.empty(width))
        self.position = nn.Parameter(torch.empty(width))
        self.segment = nn.Parameter(torch.empty(width))

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return them, [H] each."""
        return self.content, self.position, self.segment


class Segments(nn.Module):
    """What tokens of one segment, and tokens of two, are to each other."""

    def __init__(self, width: int) -> None:
        """Make a row for one segment and a row for two."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, width))

    def forward(self) -> Tensor:
        """Return both rows, [2, H]."""
        return self.weight


class RelativeAttention(nn.Module):
    """Multi-head self-attention by content, distance and segment; its projections add no biases."""

    def __init__(self, config: ModelConfig) -> None:
        """Build projections of width hidden_size; biases, if they are not those of all layers."""
        super().__init__()
        width = config.hidden_size
        self.n_heads = config.num_attention_heads
        self.p = config.attention_probs_dropout_prob
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.position = nn.Linear(width, width, bias=False)
        self.biases = Biases(width) if config.untie_r else None
        self.segments = Segments(width)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, real: Tensor, types: Tensor, encodings: Tensor, shared: Biases | None) -> Tensor:
        """Attend: x [B, S, H], real bool [B, S], types int [B, S], encodings [2 S - 1, H] -> [B, S, H]."""
        b, s, h = x.shape
        q, k, v = (part.transpose(1, 2) for part in self.qkv(x).view(b, s, 3, self.n_heads, -1).unbind(2))
        r = self.position(encodings).view(2 * s - 1, self.n_heads, -1).transpose(0, 1)
        biases = shared if self.biases is None else self.biases
        assert biases is not None, "each layer has its own, or all have the encoder's"
        c, p, e = (bias.view(self.n_heads, -1) for bias in biases())
        segments = self.segments().view(2, self.n_heads, -1)
        context = relative_attention(q, k, v, r, (c, p, e), segments, types, real, self.p, self.training)
        return cast(Tensor, self.output(context.transpose(1, 2).reshape(b, s, h)))


class XLNetFeedForward(FeedForward):
    """The feed-forward network, with dropout between its two projections as well."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the two projections."""
        super().__init__(config)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, S, H] -> [B, S, H]."""
        return cast(Tensor, self.down(self.dropout(self.activation(self.up(x)))))


class XLNetLayer(nn.Module):
    """One encoder layer, LayerNorm after each residual sum."""

    def __init__(self, config: ModelConfig) -> None:
        """Build attention, feed-forward and their norms."""
        super().__init__()
        self.attention = RelativeAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.ffn = XLNetFeedForward(config)
        self.ffn_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, real: Tensor, types: Tensor, encodings: Tensor, shared: Biases | None) -> Tensor:
        """Transform x [B, S, H]; for what else there is see `XLNetEncoder.layer_arguments`."""
        x = self.attention_norm(x + self.dropout(self.attention(x, real, types, encodings, shared)))
        return cast(Tensor, self.ffn_norm(x + self.dropout(self.ffn(x))))


class XLNetEncoder(Encoder):
    """An encoder whose layers know where tokens are by their distances alone."""

    def build_layers(self, config: ModelConfig) -> None:
        """Create one module per layer, and the biases that all have in common if they are tied."""
        self.packs = False
        self.width, self.clamp_len = config.hidden_size, config.clamp_len
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.biases = None if config.untie_r else Biases(config.hidden_size)
        self.layers = nn.ModuleList(XLNetLayer(config) for _ in range(config.num_hidden_layers))

    def layer_sequence(self) -> Iterable[nn.Module]:
        """Return the layers, first to last."""
        return self.layers

    def layer_arguments(self, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Any, ...]:
        """Return which tokens are real [B, S], their segments [B, S], the encoded distances, and the tied biases.

        Dropout of the encodings is drawn once for all windows of a batch, which share their projections.
        """
        encodings = self.dropout(self._encodings(attention_mask.shape[1], attention_mask.device))
        return attention_mask.bool(), token_type_ids, encodings, self.biases

    def _encodings(self, length: int, device: torch.device) -> Tensor:
        """Encode the distances length - 1 … 1 - length in sines and cosines: float32 [2 length - 1, H]."""
        # Not a range with a step of -1: its length can't be exported while that of a window is free.
        distances = (length - 1 - torch.arange(2 * length - 1, device=device)).float()
        if self.clamp_len > 0:
            distances = distances.clamp(-self.clamp_len, self.clamp_len)
        angles = distances[:, None] * torch.from_numpy(inverse_frequencies(self.width)).to(device)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        hidden_states: list[Tensor] | None = None,
        host_mask: Tensor | None = None,
    ) -> Tensor:
        """Encode a batch, see `Encoder.forward`; the last layer's output has a dropout of its own."""
        states = super().forward(input_ids, attention_mask, token_type_ids, hidden_states, host_mask)
        return cast(Tensor, self.dropout(states))


ENCODER = XLNetEncoder
