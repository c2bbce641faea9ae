"""The layers that the encoder families share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from pretrained_configs.config import ModelConfig
from tf_modeling.attention import attention
from tf_modeling.distances import Distances
from tf_modeling.dropout import dropout
from tf_modeling.nn import Embedding, LayerNorm, Linear, Module, Pass


@tf.custom_gradient
def _gelu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Compute x * Phi(x) in float32; what is kept for the gradient is the derivative, in the type of x."""
    scaled = tf.cast(x, tf.float32) * math.sqrt(0.5)
    cdf = 0.5 * tf.math.erf(scaled) + 0.5
    y = tf.cast(tf.cast(x, tf.float32) * cdf, x.dtype)
    derivative = tf.cast(cdf + scaled * tf.exp(-scaled * scaled) * (1 / math.sqrt(math.pi)), x.dtype)
    return y, lambda dy: dy * derivative


#: `ModelConfig.hidden_act` -> function. "gelu" is the exact (erf) form, "gelu_tanh" Google's approximation.
ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "gelu": _gelu,
    "gelu_tanh": lambda x: tf.cast(tf.nn.gelu(tf.cast(x, tf.float32), approximate=True), x.dtype),
    "quick_gelu": lambda x: x * tf.sigmoid(1.702 * x),
    "relu": tf.nn.relu,
}


class Dropout(Module):
    """Dropout with rate p; identity in evaluation."""

    def __init__(self, p: float) -> None:
        """Take the rate p in [0, 1)."""
        super().__init__()
        self.p = p

    def call(self, x: tf.Tensor, run: Pass) -> tf.Tensor:
        """Drop elements of x, any shape."""
        return dropout(x, self.p, run.seed())


class Embeddings(Module):
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
        self.word = Embedding(config.vocab_size, config.embedding_size)
        self.word_projection = Linear(config.embedding_size, width, bias=False) if projected else None
        family = config.family
        self.position = Embedding(config.max_position_embeddings, width) if family.adds_positions(config) else None
        self.token_type = Embedding(config.type_vocab_size, width) if family.has_token_type_table else None
        self.task_type = Embedding(config.task_type_vocab_size, width) if family.has_task_type_table else None
        #: Whether there are fewer rows than the input has token types: the last row stands for the rest.
        self.shares_rows = config.type_vocab_size < family.template.n_segments
        self.norm = LayerNorm(width, eps=config.layer_norm_eps) if family.has_embedding_norm else None
        self.dropout = Dropout(config.hidden_dropout_prob)

    def call(self, input_ids: tf.Tensor, token_type_ids: tf.Tensor, position_ids: tf.Tensor, run: Pass) -> tf.Tensor:
        """Embed int [B, S] inputs into float32 [B, S, E], with the projection "word" into [B, S, H]."""
        x = self.word(input_ids)
        if self.word_projection is not None:
            x = tf.cast(self.word_projection(x, run=run), tf.float32)
        if self.position is not None:
            x = x + self.position(position_ids)
        if self.token_type is not None:
            last = self.token_type.weight.shape[0] - 1
            x = x + self.token_type(tf.minimum(token_type_ids, last) if self.shares_rows else token_type_ids)
        if self.task_type is not None:
            x = x + self.task_type.weight.value[0]
        return self.dropout(x if self.norm is None else self.norm(x), run=run)


class SelfAttention(Module):
    """Multi-head self-attention with one fused projection for query, key and value (in this order)."""

    output: Any = None  # hides Keras's property of this name

    def __init__(self, config: ModelConfig) -> None:
        """Build projections of width hidden_size."""
        super().__init__()
        self.n_heads = config.num_attention_heads
        self.p = config.attention_probs_dropout_prob
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)
        relative = config.position_embedding_type
        table = (2 * config.max_position_embeddings - 1, config.hidden_size // config.num_attention_heads)
        self.distance = Embedding(*table) if relative != "absolute" else None
        self.on_keys = relative == "relative_key_query"

    def call(self, x: tf.Tensor, mask: tf.Tensor, distances: tf.Tensor | None = None, *, run: Pass) -> tf.Tensor:
        """Attend: x [B, S, H], mask bool [B, 1, 1, S] (True = may be attended to) -> [B, S, H].

        Vectors of distances, [2 S, d], are added to keys and values.
        """
        b, s, h = tf.shape(x)[0], tf.shape(x)[1], x.shape[2]
        heads = tf.reshape(self.qkv(x, run=run), [b, s, 3, self.n_heads, h // self.n_heads])
        q, k, v = tf.unstack(tf.transpose(heads, [2, 0, 3, 1, 4]))
        context = attention(q, k, v, mask, self.p, run.seed(), self._distances(s, distances))
        return self.output(tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [b, s, h]), run=run)

    def _distances(self, length: tf.Tensor, given: tf.Tensor | None) -> Distances | None:
        if given is not None:
            return Distances(given, in_values=True)
        if self.distance is None:
            return None
        # The table begins with the key that stands furthest behind the query.
        last = (self.distance.weight.shape[0] + 1) // 2 + length - 2
        rows = tf.maximum(tf.range(last, last - 2 * length, -1), 0)
        return Distances(self.distance(rows), self.on_keys)


class GroupedLinear(Module):
    """A linear map whose matrix is block diagonal up to the order of channels (albert_zh, modeling_google_fast.py).

    Block g reads the input channels g, G + g, 2 G + g … and writes the g-th run of output channels.
    """

    def __init__(self, n_in: int, n_out: int, n_groups: int) -> None:
        """Build the blocks, [n_groups, n_out / n_groups, n_in / n_groups]."""
        super().__init__()
        self.weight = self.parameter(n_groups, n_out // n_groups, n_in // n_groups)
        self.bias = self.parameter(n_out)

    def call(self, x: tf.Tensor, run: Pass) -> tf.Tensor:
        """Transform [B, S, n_in] -> [B, S, n_out], in the pass's type."""
        n_groups, n_out, n_in = self.weight.shape
        b, s = tf.shape(x)[0], tf.shape(x)[1]
        rows = tf.transpose(tf.reshape(tf.cast(x, run.dtype), [b * s, n_in, n_groups]), [2, 0, 1])
        blocks = tf.matmul(rows, run.operand(self.weight), transpose_b=True)
        y = tf.reshape(tf.transpose(blocks, [1, 0, 2]), [b, s, n_groups * n_out])
        return y + run.operand(self.bias)  # as in `Linear`


class FeedForward(Module):
    """Position-wise feed-forward network."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the two projections hidden_size -> intermediate_size -> hidden_size."""
        super().__init__()
        self.up = _linear(config.hidden_size, config.intermediate_size, config.ffn_num_groups)
        self.down = _linear(config.intermediate_size, config.hidden_size, config.ffn_num_groups)
        self.activation = ACTIVATIONS[config.hidden_act]

    def call(self, x: tf.Tensor, run: Pass) -> tf.Tensor:
        """Transform [B, S, H] -> [B, S, H]."""
        return self.down(self.activation(self.up(x, run=run)), run=run)


def _linear(n_in: int, n_out: int, n_groups: int) -> Module:
    return Linear(n_in, n_out) if n_groups == 1 else GroupedLinear(n_in, n_out, n_groups)


class TransformerLayer(Module):
    """One encoder layer, LayerNorm after each residual sum ("postln") or on each block's input ("preln")."""

    def __init__(self, config: ModelConfig) -> None:
        """Build attention, feed-forward and their norms."""
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.ffn = FeedForward(config)
        self.ffn_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.pre_norm = config.layer_norm_type == "preln"

    def call(self, x: tf.Tensor, mask: tf.Tensor, distances: tf.Tensor | None = None, *, run: Pass) -> tf.Tensor:
        """Transform x float32 [B, S, H] under mask bool [B, 1, 1, S], with vectors of distances or without."""
        if self.pre_norm:
            x = x + self._drop(self.attention(self.attention_norm(x), mask, distances, run=run), run)
            return x + self._drop(self.ffn(self.ffn_norm(x), run=run), run)
        x = self.attention_norm(x + self._drop(self.attention(x, mask, distances, run=run), run))
        return self.ffn_norm(x + self._drop(self.ffn(x, run=run), run))

    def _drop(self, x: tf.Tensor, run: Pass) -> tf.Tensor:
        return tf.cast(self.dropout(x, run=run), tf.float32)


def position_ids(attention_mask: tf.Tensor, offset: int = 0) -> tf.Tensor:
    """Number positions from the first real token.

    Args:
        attention_mask: int [B, S], 1 = real token.
        offset: position of the first real token.

    Returns:
        int32 [B, S]: offset, offset + 1 … from the first real token on (also through padding on the right, as the
        published programs do); offset for padding on the left. Left- and right-padded rows thus get the same
        positions.
    """
    n_left = tf.argmax(attention_mask, axis=1, output_type=tf.int32)[:, None] - offset
    return tf.maximum(tf.range(tf.shape(attention_mask)[1])[None, :] - n_left, offset)


def counted_position_ids(input_ids: tf.Tensor, attention_mask: tf.Tensor, pad_id: int) -> tf.Tensor:
    """Number the tokens that are no padding, as RoBERTa does; padding has the row of its id.

    Args:
        input_ids: int [B, S].
        attention_mask: int [B, S], 1 = real token.
        pad_id: id of the padding; the first token takes the next row.

    Returns:
        int32 [B, S].
    """
    counted = tf.cast((input_ids != pad_id) & (tf.cumsum(attention_mask, axis=1) > 0), tf.int32)
    return tf.cumsum(counted, axis=1) * counted + pad_id


def initialise(fresh: Iterable[tuple[str, keras.Variable]], std: float, seed: int) -> None:
    """Draw fresh weights as the published programs do: normal(0, std) cut at two std; zero bias; unit LayerNorm."""
    for i, (name, variable) in enumerate(fresh):
        if len(variable.shape) > 1 or name.rpartition(".")[2] not in ("weight", "bias"):
            # Philox by name: the algorithm that is chosen otherwise depends on the device.
            values = tf.random.stateless_truncated_normal(variable.shape, [seed, i], stddev=std, alg="philox")
            variable.assign(values)
        elif name.endswith("weight"):
            variable.assign(tf.ones(variable.shape))
