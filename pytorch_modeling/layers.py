"""The layers that the encoder families share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrained_configs.config import ModelConfig
from pytorch_modeling.attention import attention
from pytorch_modeling.distances import Distances
from pytorch_modeling.dropout import dropout
from pytorch_modeling.packing import Packing

#: `ModelConfig.hidden_act` -> function. "gelu" is the exact (erf) form, "gelu_tanh" Google's approximation.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
}


class Dropout(nn.Module):
    """Dropout with rate p; identity in evaluation mode."""

    def __init__(self, p: float) -> None:
        """Take the rate p in [0, 1)."""
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x, any shape."""
        return dropout(x, self.p, self.training)


class Embeddings(nn.Module):
    """Word + position + token type embeddings, normalised (Devlin et al. 2019, section 3).

    All are embedding_size wide; with the projection "word" (albert_zh) the word table alone is, and its rows are
    projected to hidden_size before the sum. A family may be without positions, token types or LayerNorm here, and may
    add the first row of a table of pre-training tasks.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Build the tables."""
        super().__init__()
        projected = config.embedding_projection == "word"
        width = config.hidden_size if projected else config.embedding_size
        self.word = _embedding(config.vocab_size, config.embedding_size)
        self.word_projection = nn.Linear(config.embedding_size, width, bias=False) if projected else None
        family = config.family
        self.position = _embedding(config.max_position_embeddings, width) if family.adds_positions(config) else None
        self.token_type = _embedding(config.type_vocab_size, width) if family.has_token_type_table else None
        self.task_type = _embedding(config.task_type_vocab_size, width) if family.has_task_type_table else None
        #: Whether there are fewer rows than the input has token types: the last row stands for the rest.
        self.shares_rows = config.type_vocab_size < family.template.n_segments
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if family.has_embedding_norm else None
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Embed int [B, S] inputs into [B, S, E], with the projection "word" into [B, S, H]."""
        x = self.word(input_ids)
        if self.word_projection is not None:
            x = self.word_projection(x)
        if self.position is not None:
            x = x + self.position(position_ids)
        if self.token_type is not None:
            last = self.token_type.num_embeddings - 1
            x = x + self.token_type(token_type_ids.clamp(max=last) if self.shares_rows else token_type_ids)
        if self.task_type is not None:
            x = x + self.task_type.weight[0]
        return self.dropout(x if self.norm is None else self.norm(x))


def _embedding(n_rows: int, width: int) -> nn.Embedding:
    """Return a table without values: its constructor's draw, never used here, imports PyTorch's compiler."""
    return nn.Embedding.from_pretrained(torch.empty(n_rows, width), freeze=False)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection for query, key and value (in this order)."""

    def __init__(self, config: ModelConfig) -> None:
        """Build projections of width hidden_size."""
        super().__init__()
        self.n_heads = config.num_attention_heads
        self.p = config.attention_probs_dropout_prob
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        relative = config.position_embedding_type
        table = (2 * config.max_position_embeddings - 1, config.hidden_size // config.num_attention_heads)
        self.distance = _embedding(*table) if relative != "absolute" else None
        self.on_keys = relative == "relative_key_query"

    def forward(self, x: Tensor, mask: Tensor | Packing, distances: Tensor | None = None) -> Tensor:
        """Attend: x [B, S, H], mask bool [B, 1, 1, S] (True = may be attended to) or a packing -> [B, S, H].

        Vectors of distances, [2 S, d], are added to keys and values.
        """
        b, s, h = x.shape
        # Taken apart before they are transposed: backward writes their gradients where the projection reads them.
        q, k, v = (part.transpose(1, 2) for part in self.qkv(x).view(b, s, 3, self.n_heads, -1).unbind(2))
        context = attention(q, k, v, mask, self.p, self.training, self._distances(s, distances))
        return self.output(context.transpose(1, 2).reshape(b, s, h))

    def _distances(self, length: int, given: Tensor | None) -> Distances | None:
        if given is not None:
            return Distances(given, in_values=True)
        if self.distance is None:
            return None
        # The table begins with the key that stands furthest behind the query.
        last = (self.distance.num_embeddings + 1) // 2 + length - 2
        rows = torch.arange(last, last - 2 * length, -1, device=self.distance.weight.device).clamp(min=0)
        return Distances(self.distance(rows), self.on_keys)


class GroupedLinear(nn.Module):
    """A linear map whose matrix is block diagonal up to the order of channels (albert_zh, modeling_google_fast.py).

    Block g reads the input channels g, G + g, 2 G + g … and writes the g-th run of output channels.
    """

    def __init__(self, n_in: int, n_out: int, n_groups: int) -> None:
        """Build the blocks, [n_groups, n_out / n_groups, n_in / n_groups]."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_groups, n_out // n_groups, n_in // n_groups))
        self.bias = nn.Parameter(torch.empty(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, S, n_in] -> [B, S, n_out]."""
        n_groups, _, n_in = self.weight.shape
        blocks = torch.einsum("bsig,goi->bsgo", x.unflatten(-1, (n_in, n_groups)), self.weight)
        return blocks.flatten(-2) + self.bias


class FeedForward(nn.Module):
    """Position-wise feed-forward network."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the two projections hidden_size -> intermediate_size -> hidden_size."""
        super().__init__()
        self.up = _linear(config.hidden_size, config.intermediate_size, config.ffn_num_groups)
        self.down = _linear(config.intermediate_size, config.hidden_size, config.ffn_num_groups)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, S, H] -> [B, S, H]."""
        return self.down(self.activation(self.up(x)))


def _linear(n_in: int, n_out: int, n_groups: int) -> nn.Module:
    return nn.Linear(n_in, n_out) if n_groups == 1 else GroupedLinear(n_in, n_out, n_groups)


class TransformerLayer(nn.Module):
    """One encoder layer, LayerNorm after each residual sum ("postln") or on each block's input ("preln")."""

    def __init__(self, config: ModelConfig) -> None:
        """Build attention, feed-forward and their norms."""
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.ffn = FeedForward(config)
        self.ffn_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.pre_norm = config.layer_norm_type == "preln"

    def forward(self, x: Tensor, mask: Tensor | Packing, distances: Tensor | None = None) -> Tensor:
        """Transform x [B, S, H] under a mask or packing, with vectors of distances or without -> [B, S, H]."""
        if self.pre_norm:
            x = x + self.dropout(self.attention(self.attention_norm(x), mask, distances))
            return x + self.dropout(self.ffn(self.ffn_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, mask, distances)))
        return self.ffn_norm(x + self.dropout(self.ffn(x)))


def position_ids(attention_mask: Tensor, offset: int = 0) -> Tensor:
    """Number positions from the first real token.

    Args:
        attention_mask: [B, S], 1 = real token.
        offset: position of the first real token.

    Returns:
        int64 [B, S]: offset, offset + 1 … from the first real token on (also through padding on the right, as the
        published programs do); offset for padding on the left. Left- and right-padded rows thus get the same
        positions.
    """
    n_left = attention_mask.to(torch.int32).argmax(dim=1, keepdim=True) - offset
    return (torch.arange(attention_mask.shape[1], device=attention_mask.device) - n_left).clamp_(min=offset)


def counted_position_ids(input_ids: Tensor, attention_mask: Tensor, pad_id: int) -> Tensor:
    """Number the tokens that are no padding, as RoBERTa does; padding has the row of its id.

    Args:
        input_ids: [B, S].
        attention_mask: [B, S], 1 = real token.
        pad_id: id of the padding; the first token takes the next row.

    Returns:
        int64 [B, S].
    """
    counted = (input_ids != pad_id) & (attention_mask.cumsum(dim=1) > 0)
    return counted.cumsum(dim=1) * counted + pad_id


def initialise(fresh: Iterable[nn.Module], std: float) -> None:
    """Draw fresh weights as the published programs do: normal(0, std) cut at two std; zero bias; unit LayerNorm."""
    for child in fresh:
        if not isinstance(child, nn.Linear | GroupedLinear | nn.Embedding | nn.LayerNorm):
            for name, vector in child.named_parameters(recurse=False):
                if name != "bias":
                    nn.init.trunc_normal_(vector, std=std, a=-2 * std, b=2 * std)
                else:
                    nn.init.zeros_(vector)
        if isinstance(child, nn.Linear | GroupedLinear | nn.Embedding):
            nn.init.trunc_normal_(child.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(child, nn.LayerNorm):
            nn.init.ones_(child.weight)
        if isinstance(child, nn.Linear | GroupedLinear | nn.LayerNorm) and child.bias is not None:
            nn.init.zeros_(child.bias)
