"""The task head: what a problem's outputs read, projected to their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from preprocess.base.methods import STATES
from preprocess.types import NO_TARGET, HeadSpec, Output
from pretrained_configs.config import ModelConfig
from tf_modeling.dropout import dropout
from tf_modeling.layers import ACTIVATIONS, Dropout, Embeddings
from tf_modeling.nn import LayerNorm, Linear, Module, Pass
from tf_modeling.objective import competing


class Head(Module):
    """What computes each projection's values, by its name: a matrix, or a small network."""

    def __init__(self, config: ModelConfig, spec: HeadSpec) -> None:
        """Build the projections for `spec`."""
        super().__init__()
        self.spec = spec
        own = {name: _readout(config, spec.given.get(name, ""), n) for name, n in spec.rows.items()}
        self.projections = {**own, **{name: VocabularyHead(config) for name in spec.tied}}

    def pieces(
        self, sequence_output: tf.Tensor, places: tf.Tensor, embeddings: Embeddings, run: Pass
    ) -> dict[str, tf.Tensor]:
        """Score the vocabulary at some places alone: at all of them, the scores would be larger than the model.

        Args:
            sequence_output: [B, S, H].
            places: int [B, P].
            embeddings: the encoder's.
            run: precision.

        Returns:
            the values, by name, of the outputs that read the vocabulary, [B, P, pieces of the vocabulary].
        """
        states = tf.gather(sequence_output, places, axis=1, batch_dims=1)
        return {
            self.spec.projections[name][0].name: self.projections[name](states, embeddings=embeddings, run=run)
            for name in self.spec.tied
        }

    def call(
        self,
        sequence_output: tf.Tensor,
        pooled_output: tf.Tensor | None,
        pooled_state: tf.Tensor | None,
        batch: Mapping[str, tf.Tensor],
        run: Pass,
    ) -> dict[str, tf.Tensor]:
        """Score [B, S, H], [B, H] and, before its pooling, [B, H].

        Args:
            sequence_output: of each token.
            pooled_output: of the window.
            pooled_state: the state of the special token that is pooled.
            batch: the masks of `objective`; a target of what is given to another output is given in its place.
            run: in float32.

        Returns:
            the values of the outputs with a matrix of their own by name, see `Outputs`; and what is held against a
            teacher's hidden states while these are matched.
        """
        values: dict[str, tf.Tensor] = {}
        for name, outputs in self.spec.projections.items():
            first, readout = outputs[0], self.projections[name]
            if name in self.spec.tied:
                continue
            if first.reads == "token_given":
                scores = readout(sequence_output, self._positions(first, values, batch), run=run)
                scores = tf.squeeze(scores, 2) if first.given in batch else scores
            elif first.reads == "sequence_given":
                assert pooled_state is not None, f"{name} reads the state that is pooled"
                probability = tf.nn.softmax(self._scores(first, values, batch))
                scores = readout(sequence_output, probability, pooled_state, run=run)
            else:
                read = sequence_output if first.reads == "token" else pooled_output
                assert read is not None, f"{name} reads the pooled output"
                scores = readout(dropout(read, self.spec.dropout, run.seed()) if first.drops else read, run=run)
            values |= _divided(scores, outputs)
        if STATES in self.projections:
            values[STATES] = self.projections[STATES](sequence_output, run=run)
        return values

    def _scores(self, output: Output, values: Mapping[str, tf.Tensor], batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Return the scores of the positions that are given to an output, [B, S]; -inf where none can be."""
        given = next(earlier for earlier in self.spec.outputs if earlier.name == output.given)
        return tf.where(competing(given, batch), values[given.name], -math.inf)

    def _positions(
        self, output: Output, values: Mapping[str, tf.Tensor], batch: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """Return the positions that are given to an output, int32 [B, 1] where they are known, else [B, beams]."""
        if output.given in batch:
            return tf.maximum(batch[output.given], 0)[:, None]
        scores = self._scores(output, values, batch)
        # Of equals the first comes first: decoding finds out the positions by that order.
        return tf.math.top_k(scores, tf.minimum(output.beams, tf.shape(scores)[1])).indices


class VocabularyHead(Module):
    """Scores each piece of the vocabulary: a transform of the state, and the word table as the matrix."""

    def __init__(self, config: ModelConfig) -> None:
        """Build what is not the word table's, as wide as the embeddings are where they enter the encoder."""
        super().__init__()
        width = config.hidden_size if config.embedding_projection == "word" else config.embedding_size
        self.bias = self.parameter(config.vocab_size)
        self.dense = Linear(config.hidden_size, width)
        self.norm = LayerNorm(width, eps=config.layer_norm_eps)
        self.activation = ACTIVATIONS[config.hidden_act]

    def call(self, states: tf.Tensor, embeddings: Embeddings, run: Pass) -> tf.Tensor:
        """Score [B, P, H] -> [B, P, pieces of the vocabulary]."""
        x = tf.cast(self.norm(self.activation(self.dense(states, run=run))), run.dtype)
        if embeddings.word_projection is not None:
            x = _times(x, run.operand(embeddings.word_projection.kernel))
        return _times(x, run.operand(embeddings.word.weight)) + run.operand(self.bias)


def _times(x: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Multiply [B, P, n] by each row of [m, n] -> [B, P, m]."""
    flat = tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), rows, transpose_b=True)
    return tf.reshape(flat, [tf.shape(x)[0], tf.shape(x)[1], rows.shape[0]])


class GivenToken(Module):
    """Scores tokens beside the token of a position: both states through a layer, its tanh normalised."""

    output: Any = None  # hides Keras's property of this name

    def __init__(self, config: ModelConfig, n_rows: int) -> None:
        """Build the layer, its LayerNorm and the projection to `n_rows` values."""
        super().__init__()
        self.hidden = Linear(2 * config.hidden_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.output = Linear(config.hidden_size, n_rows)

    def call(self, states: tf.Tensor, position: tf.Tensor, run: Pass) -> tf.Tensor:
        """Score states [B, S, H] given each position of [B, K] -> [B, S, K, n_rows]."""
        given = tf.gather(states, position, axis=1, batch_dims=1)
        # The product with two states side by side is a sum of two, one for all positions and one for all tokens.
        assert self.hidden.bias is not None
        own, other = tf.split(self.hidden.kernel.value, 2, axis=0)
        x = (tf.matmul(states, own) + self.hidden.bias.value)[:, :, None] + tf.matmul(given, other)[:, None]
        return self.output(self.norm(tf.tanh(x)), run=run)


class GivenSequence(Module):
    """Scores a window: the mean state of where a position may be beside the special token's, through a layer."""

    output: Any = None  # hides Keras's property of this name

    def __init__(self, config: ModelConfig, n_rows: int) -> None:
        """Build the layer, its dropout and the projection to `n_rows` values."""
        super().__init__()
        self.hidden = Linear(2 * config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.output = Linear(config.hidden_size, n_rows, bias=False)

    def call(self, states: tf.Tensor, probability: tf.Tensor, special: tf.Tensor, run: Pass) -> tf.Tensor:
        """Score windows: states [B, S, H], probability [B, S] of each position, special [B, H] -> [B, n_rows]."""
        mean = tf.einsum("bs,bsh->bh", probability, states)
        x = tf.tanh(self.hidden(tf.concat([mean, special], -1), run=run))
        return self.output(self.dropout(x, run=run), run=run)


def _readout(config: ModelConfig, given: str, n_rows: int) -> Module:
    if given == "token_given":
        return GivenToken(config, n_rows)
    if given == "sequence_given":
        return GivenSequence(config, n_rows)
    return Linear(config.hidden_size, n_rows)


def reported(spec: HeadSpec, values: Mapping[str, tf.Tensor], batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return what a prediction hands out: of what reads the vocabulary, how its targets fare; see `Outputs`.

    Args:
        spec: the outputs.
        values: of each, by name.
        batch: with the targets of those that read the vocabulary, int [B, P].
    """
    tied = [spec.projections[name][0].name for name in spec.tied]
    return {name: _fate(value, batch[name]) if name in tied else value for name, value in values.items()}


def _fate(scores: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Turn [B, P, V] into the logarithm of each target's probability, and how many pieces are likelier, [B, P, 2]."""
    scores, counted = tf.cast(scores, tf.float32), target != NO_TARGET
    right = tf.gather(scores, tf.maximum(target, 0), axis=2, batch_dims=2)
    log_probability = right - tf.reduce_logsumexp(scores, -1)
    n_likelier = tf.reduce_sum(tf.cast(scores > right[..., None], tf.float32), -1)
    return tf.stack([tf.where(counted, log_probability, 0.0), tf.where(counted, n_likelier, -1.0)], -1)


def _divided(scores: tf.Tensor, outputs: tuple[Output, ...]) -> dict[str, tf.Tensor]:
    """Give each output its columns of a projection."""
    columns = tf.split(scores, [output.size for output in outputs], axis=-1)
    return {
        output.name: tf.squeeze(column, -1) if output.size == 1 else column
        for output, column in zip(outputs, columns, strict=True)
    }
