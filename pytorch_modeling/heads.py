"""The task head: what a problem's outputs read, projected to their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preprocess.base.methods import STATES
from preprocess.types import NO_TARGET, HeadSpec, Output
from pretrained_configs.config import ModelConfig
from pytorch_modeling.dropout import dropout
from pytorch_modeling.layers import ACTIVATIONS, Dropout, Embeddings
from pytorch_modeling.objective import competing


class Head(nn.ModuleDict):
    """What computes each projection's values, by its name: a matrix, or a small network."""

    def __init__(self, config: ModelConfig, spec: HeadSpec) -> None:
        """Build the projections for `spec`."""
        own = {name: _readout(config, spec.given.get(name, ""), n) for name, n in spec.rows.items()}
        super().__init__({**own, **{name: VocabularyHead(config) for name in spec.tied}})
        self.spec = spec

    def pieces(self, sequence_output: Tensor, places: Tensor, embeddings: Embeddings) -> dict[str, Tensor]:
        """Score the vocabulary at some places alone: at all of them, the scores would be larger than the model.

        Args:
            sequence_output: [B, S, H].
            places: int [B, P].
            embeddings: the encoder's.

        Returns:
            the values, by name, of the outputs that read the vocabulary, [B, P, pieces of the vocabulary].
        """
        rows = torch.arange(places.shape[0], device=places.device)[:, None]
        states = sequence_output[rows, places]
        return {self.spec.projections[name][0].name: self[name](states, embeddings) for name in self.spec.tied}

    def forward(
        self,
        sequence_output: Tensor,
        pooled_output: Tensor | None,
        pooled_state: Tensor | None,
        batch: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Score [B, S, H], [B, H] and, before its pooling, [B, H].

        Args:
            sequence_output: of each token.
            pooled_output: of the window.
            pooled_state: the state of the special token that is pooled.
            batch: the masks of `objective`; a target of what is given to another output is given in its place.

        Returns:
            the values of the outputs with a matrix of their own by name, see `Outputs`; and what is held against a
            teacher's hidden states while these are matched.
        """
        values: dict[str, Tensor] = {}
        for name, outputs in self.spec.projections.items():
            first = outputs[0]
            if name in self.spec.tied:
                continue
            if first.reads == "token_given":
                scores = self[name](sequence_output, self._positions(first, values, batch))
                scores = scores.squeeze(2) if first.given in batch else scores
            elif first.reads == "sequence_given":
                assert pooled_state is not None, f"{name} reads the state that is pooled"
                scores = self[name](sequence_output, self._scores(first, values, batch).softmax(-1), pooled_state)
            else:
                read = sequence_output if first.reads == "token" else pooled_output
                assert read is not None, f"{name} reads the pooled output"
                scores = self[name](dropout(read, self.spec.dropout, self.training) if first.drops else read)
            values |= _divided(scores, outputs)
        if STATES in self:
            values[STATES] = self[STATES](sequence_output)
        return values

    def _scores(self, output: Output, values: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Return the scores of the positions that are given to an output, [B, S]; -inf where none can be."""
        given = next(earlier for earlier in self.spec.outputs if earlier.name == output.given)
        return values[given.name].masked_fill(~competing(given, batch), -torch.inf)

    def _positions(self, output: Output, values: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Return the positions that are given to an output, int64 [B, 1] where they are known, else [B, beams]."""
        if output.given in batch:
            return batch[output.given].clamp(min=0)[:, None]
        scores = self._scores(output, values, batch)
        # Not topk, which says nothing of the order of equals: decoding finds out the positions by it.
        return scores.sort(dim=-1, descending=True, stable=True).indices[:, : output.beams]


class VocabularyHead(nn.Module):
    """Scores each piece of the vocabulary: a transform of the state, and the word table as the matrix."""

    def __init__(self, config: ModelConfig) -> None:
        """Build what is not the word table's, as wide as the embeddings are where they enter the encoder."""
        super().__init__()
        width = config.hidden_size if config.embedding_projection == "word" else config.embedding_size
        self.bias = nn.Parameter(torch.empty(config.vocab_size))
        self.dense = nn.Linear(config.hidden_size, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, states: Tensor, embeddings: Embeddings) -> Tensor:
        """Score [B, P, H] -> [B, P, pieces of the vocabulary]."""
        x = self.norm(self.activation(self.dense(states)))
        if embeddings.word_projection is not None:
            x = F.linear(x, embeddings.word_projection.weight.T)
        return F.linear(x, embeddings.word.weight, self.bias)


class GivenToken(nn.Module):
    """Scores tokens beside the token of a position: both states through a layer, its tanh normalised."""

    def __init__(self, config: ModelConfig, n_rows: int) -> None:
        """Build the layer, its LayerNorm and the projection to `n_rows` values."""
        super().__init__()
        self.hidden = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.output = nn.Linear(config.hidden_size, n_rows)

    def forward(self, states: Tensor, position: Tensor) -> Tensor:
        """Score states [B, S, H] given each position of [B, K] -> [B, S, K, n_rows]."""
        given = states[torch.arange(states.shape[0], device=states.device)[:, None], position]
        # The product with two states side by side is a sum of two, one for all positions and one for all tokens.
        own, other = self.hidden.weight.chunk(2, dim=1)
        x = F.linear(states, own, self.hidden.bias)[:, :, None] + F.linear(given, other)[:, None]
        return cast(Tensor, self.output(self.norm(torch.tanh(x))))


class GivenSequence(nn.Module):
    """Scores a window: the mean state of where a position may be beside the special token's, through a layer."""

    def __init__(self, config: ModelConfig, n_rows: int) -> None:
        """Build the layer, its dropout and the projection to `n_rows` values."""
        super().__init__()
        self.hidden = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.output = nn.Linear(config.hidden_size, n_rows, bias=False)

    def forward(self, states: Tensor, probability: Tensor, special: Tensor) -> Tensor:
        """Score windows: states [B, S, H], probability [B, S] of each position, special [B, H] -> [B, n_rows]."""
        mean = torch.einsum("bs,bsh->bh", probability, states)
        x = torch.tanh(self.hidden(torch.cat([mean, special], dim=-1)))
        return cast(Tensor, self.output(self.dropout(x)))


def _readout(config: ModelConfig, given: str, n_rows: int) -> nn.Module:
    if given == "token_given":
        return GivenToken(config, n_rows)
    if given == "sequence_given":
        return GivenSequence(config, n_rows)
    return nn.Linear(config.hidden_size, n_rows)


def reported(spec: HeadSpec, values: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return what a prediction hands out: of what reads the vocabulary, how its targets fare; see `Outputs`.

    Args:
        spec: the outputs.
        values: of each, by name.
        batch: with the targets of those that read the vocabulary, int [B, P].
    """
    tied = [spec.projections[name][0].name for name in spec.tied]
    return {name: _fate(value, batch[name]) if name in tied else value for name, value in values.items()}


def _fate(scores: Tensor, target: Tensor) -> Tensor:
    """Turn [B, P, V] into the logarithm of each target's probability, and how many pieces are likelier, [B, P, 2]."""
    scores, counted = scores.float(), target != NO_TARGET
    right = scores.gather(-1, target.clamp(min=0)[..., None])
    log_probability = right.squeeze(-1) - scores.logsumexp(-1)
    n_likelier = (scores > right).sum(-1).float()
    return torch.stack([log_probability * counted, torch.where(counted, n_likelier, -1.0)], -1)


def _divided(scores: Tensor, outputs: tuple[Output, ...]) -> dict[str, Tensor]:
    """Give each output its columns of a projection."""
    columns = scores.split([output.size for output in outputs], dim=-1)
    # No views: the hooks of a sharded model would get lost with them.
    return {
        output.name: (column.squeeze(-1) if output.size == 1 else column).contiguous()
        for output, column in zip(outputs, columns, strict=True)
    }
