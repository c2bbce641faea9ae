"""XLNet (Yang et al. 2019) as it is fine-tuned: one stream, no memory of earlier segments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from pretrained_configs.config import ModelConfig
from pretrained_configs.families.xlnet import inverse_frequencies
from tf_modeling.encoder import Encoder
from tf_modeling.layers import Dropout, FeedForward, TransformerLayer
from tf_modeling.nn import LayerNorm, Linear, Module, Pass
from tf_modeling.relative import relative_attention

_Vectors = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class Biases(Module):
    """What is added to a query before it meets contents, positions and segments."""

    def __init__(self, width: int) -> None:
        """Make the three vectors."""
        super().__init__()
        self.content = self.parameter(width)
        self.position = self.parameter(width)
        self.segment = self.parameter(width)

    def call(self) -> _Vectors:
        """Return them, [H] each."""
        return self.content.value, self.position.value, self.segment.value


class Segments(Module):
    """What tokens of one segment, and tokens of two, are to each other."""

    def __init__(self, width: int) -> None:
        """Make a row for one segment and a row for two."""
        super().__init__()
        self.weight = self.parameter(2, width)

    def call(self) -> tf.Tensor:
        """Return both rows, [2, H]."""
        return self.weight.value


class RelativeAttention(Module):
    """Multi-head self-attention by content, distance and segment; its projections add no biases."""

    output: Any = None  # hides Keras's property of this name

    def __init__(self, config: ModelConfig) -> None:
        """Build projections of width hidden_size; biases, if they are not those of all layers."""
        super().__init__()
        width = config.hidden_size
        self.n_heads = config.num_attention_heads
        self.p = config.attention_probs_dropout_prob
        self.qkv = Linear(width, 3 * width, bias=False)
        self.position = Linear(width, width, bias=False)
        self.biases = Biases(width) if config.untie_r else None
        self.segments = Segments(width)
        self.output = Linear(width, width, bias=False)

    def call(
        self,
        x: tf.Tensor,
        real: tf.Tensor,
        types: tf.Tensor,
        encodings: tf.Tensor,
        shared: _Vectors | None,
        run: Pass,
    ) -> tf.Tensor:
        """Attend: x [B, S, H], real bool [B, S], types int [B, S], encodings [2 S - 1, H] -> [B, S, H]."""
        b, s, h = tf.shape(x)[0], tf.shape(x)[1], x.shape[2]
        width = h // self.n_heads
        heads = tf.reshape(self.qkv(x, run=run), [b, s, 3, self.n_heads, width])
        q, k, v = tf.unstack(tf.transpose(heads, [2, 0, 3, 1, 4]))
        r = tf.transpose(tf.reshape(self.position(encodings, run=run), [-1, self.n_heads, width]), [1, 0, 2])
        biases = shared if self.biases is None else self.biases.call()
        assert biases is not None, "each layer has its own, or all have the encoder's"
        c, p, e = (tf.reshape(bias, [self.n_heads, width]) for bias in biases)
        segments = tf.reshape(self.segments.call(), [2, self.n_heads, width])
        context = relative_attention(q, k, v, r, (c, p, e), segments, types, real, self.p, run.seed())
        return self.output(tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [b, s, h]), run=run)


class XLNetFeedForward(FeedForward):
    """The feed-forward network, with dropout between its two projections as well."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the two projections."""
        super().__init__(config)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def call(self, x: tf.Tensor, run: Pass) -> tf.Tensor:
        """Transform [B, S, H] -> [B, S, H]."""
        return self.down(self.dropout(self.activation(self.up(x, run=run)), run=run), run=run)


class XLNetLayer(Module):
    """One encoder layer, LayerNorm after each residual sum."""

    def __init__(self, config: ModelConfig) -> None:
        """Build attention, feed-forward and their norms."""
        super().__init__()
        self.attention = RelativeAttention(config)
        self.attention_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.ffn = XLNetFeedForward(config)
        self.ffn_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def call(
        self,
        x: tf.Tensor,
        real: tf.Tensor,
        types: tf.Tensor,
        encodings: tf.Tensor,
        shared: _Vectors | None,
        run: Pass,
    ) -> tf.Tensor:
        """Transform x float32 [B, S, H] -> the same; for what else there is see `XLNetEncoder.layer_arguments`."""
        x = self.attention_norm(x + self._drop(self.attention(x, real, types, encodings, shared, run=run), run))
        return self.ffn_norm(x + self._drop(self.ffn(x, run=run), run))

    def _drop(self, x: tf.Tensor, run: Pass) -> tf.Tensor:
        return tf.cast(self.dropout(x, run=run), tf.float32)


class XLNetEncoder(Encoder):
    """An encoder whose layers know where tokens are by their distances alone."""

    def build_layers(self, config: ModelConfig) -> None:
        """Create one module per layer, and the biases that all have in common if they are tied."""
        self.width, self.clamp_len = config.hidden_size, config.clamp_len
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.biases = None if config.untie_r else Biases(config.hidden_size)
        self.layers = [XLNetLayer(config) for _ in range(config.num_hidden_layers)]

    def layer_sequence(self) -> Iterable[TransformerLayer]:
        """Return the layers, first to last."""
        return self.layers

    def layer_arguments(self, attention_mask: tf.Tensor, token_type_ids: tf.Tensor, run: Pass) -> tuple[Any, ...]:
        """Return which tokens are real [B, S], their segments [B, S], the encoded distances, and the tied biases.

        Dropout of the encodings is drawn once for all windows of a batch, which share their projections.
        """
        encodings = self.dropout(self._encodings(tf.shape(attention_mask)[1]), run=run)
        # As variables: a layer that is computed again has to read them itself, or they would get no gradient.
        tied = self.biases and (self.biases.content, self.biases.position, self.biases.segment)
        return tf.cast(attention_mask, tf.bool), token_type_ids, encodings, tied

    def _encodings(self, length: tf.Tensor) -> tf.Tensor:
        """Encode the distances length - 1 … 1 - length in sines and cosines: float32 [2 length - 1, H]."""
        distances = tf.cast(tf.range(length - 1, -length, -1), tf.float32)
        if self.clamp_len > 0:
            distances = tf.clip_by_value(distances, -self.clamp_len, self.clamp_len)
        angles = distances[:, None] * inverse_frequencies(self.width)
        return tf.concat([tf.sin(angles), tf.cos(angles)], -1)

    def call(
        self,
        input_ids: tf.Tensor,
        attention_mask: tf.Tensor,
        token_type_ids: tf.Tensor,
        run: Pass,
        hidden_states: list[tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """Encode a batch, see `Encoder.call`; the last layer's output has a dropout of its own."""
        return self.dropout(super().call(input_ids, attention_mask, token_type_ids, run, hidden_states), run=run)


ENCODER = XLNetEncoder
