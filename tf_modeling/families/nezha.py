"""NEZHA (Wei et al. 2019): BERT's layers, with sinusoids of the distance in keys and values."""

from __future__ import annotations

import math

import tensorflow as tf

from pretrained_configs.config import ModelConfig
from tf_modeling.families.bert import BertEncoder
from tf_modeling.nn import Pass


class NezhaEncoder(BertEncoder):
    """An encoder that gives all layers the same vectors of the distances between tokens."""

    def build_layers(self, config: ModelConfig) -> None:
        """Create one module per layer."""
        super().build_layers(config)
        self.max_relative_position = config.max_relative_position
        self.head_size = config.hidden_size // config.num_attention_heads

    def layer_arguments(
        self, attention_mask: tf.Tensor, token_type_ids: tf.Tensor, run: Pass
    ) -> tuple[tf.Tensor, ...]:
        """Return which positions may be attended to, and the vectors of distances, [2 S, d]."""
        length, most = tf.shape(attention_mask)[1], self.max_relative_position
        distance = tf.clip_by_value(tf.range(1 - length, length + 1), -most, most)
        rows = sinusoids(distance + most, self.head_size)
        return (*super().layer_arguments(attention_mask, token_type_ids, run), rows)


def sinusoids(positions: tf.Tensor, width: int) -> tf.Tensor:
    """Return sine and cosine by turns, of frequencies from 1 down to almost 1 / 10000 (Vaswani et al. 2017).

    Args:
        positions: integers [N].
        width: even.

    Returns:
        float32 [N, width].
    """
    rates = tf.exp(tf.range(0, width, 2, dtype=tf.float32) * (-math.log(10000.0) / width))
    angles = tf.cast(positions, tf.float32)[:, None] * rates
    return tf.reshape(tf.stack([tf.sin(angles), tf.cos(angles)], -1), [-1, width])


ENCODER = NezhaEncoder
