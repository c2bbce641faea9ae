"""What the encoder families have in common: embeddings, a run through layers, a pooler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import tensorflow as tf

from pretrained_configs.config import ModelConfig
from tf_modeling.layers import Embeddings, TransformerLayer, counted_position_ids, position_ids
from tf_modeling.nn import Linear, Module, Pass


class Encoder(Module, ABC):
    """Embeddings and layers; with a pooler for tasks that read the whole input's pooled state.

    A family adds its layers and says in which order they run, and with what beside their input.
    """

    def __init__(self, config: ModelConfig, *, pooled: bool) -> None:
        """Build an encoder; its weights are zero until initialised or loaded."""
        super().__init__()
        #: How many of the first layers are computed again in backward instead of keeping what they computed.
        self.n_recomputed = 0
        self.position_offset = config.family.position_offset
        #: The row of the position table that is padding's alone; None where padding counts on.
        self.padding_row = config.pad_token_id if config.family.padding_row else None
        self.pooled_token = config.family.pooled_token
        self.embeddings = Embeddings(config)
        projected = config.embedding_projection == "output"
        self.projection = Linear(config.embedding_size, config.hidden_size) if projected else None
        self.build_layers(config)
        self.pooler = Linear(config.hidden_size, config.hidden_size) if pooled else None

    @abstractmethod
    def build_layers(self, config: ModelConfig) -> None:
        """Create the modules of the layers."""

    @abstractmethod
    def layer_sequence(self) -> Iterable[TransformerLayer]:
        """Return the layers in the order in which they run; one may occur more than once."""

    def layer_arguments(
        self, attention_mask: tf.Tensor, token_type_ids: tf.Tensor, run: Pass
    ) -> tuple[tf.Tensor, ...]:
        """Return what every layer is given beside its input: here which positions may be attended to.

        Args:
            attention_mask: int [B, S].
            token_type_ids: int [B, S].
            run: precision and dropout.
        """
        return (tf.cast(attention_mask, tf.bool)[:, None, None, :],)

    def call(
        self,
        input_ids: tf.Tensor,
        attention_mask: tf.Tensor,
        token_type_ids: tf.Tensor,
        run: Pass,
        hidden_states: list[tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """Encode a batch.

        Args:
            input_ids: int [B, S].
            attention_mask: int [B, S], 1 = real token, at least one per row.
            token_type_ids: int [B, S].
            run: precision and dropout.
            hidden_states: if given, the embeddings' output [B, S, E], the first layer's input and every layer's
                output [B, S, H] are appended to it.

        Returns:
            float32 [B, S, H], the last layer's output.
        """
        states = hidden_states if hidden_states is not None else []
        x = self.embeddings(input_ids, token_type_ids, self.positions(input_ids, attention_mask), run=run)
        states.append(x)
        if self.projection is not None:
            x = tf.cast(self.projection(x, run=run), tf.float32)
        states.append(x)
        arguments = self.layer_arguments(attention_mask, token_type_ids, run)
        for i, layer in enumerate(self.layer_sequence()):
            x = _recomputed(layer, x, arguments, run) if i < self.n_recomputed else layer(x, *arguments, run=run)
            states.append(x)
        return x

    def positions(self, input_ids: tf.Tensor, attention_mask: tf.Tensor) -> tf.Tensor:
        """Return the row of the position table that each token takes, int32 [B, S]."""
        if self.padding_row is None:
            return position_ids(attention_mask, self.position_offset)
        return counted_position_ids(input_ids, attention_mask, self.padding_row)

    def pool(self, sequence_output: tf.Tensor, attention_mask: tf.Tensor, run: Pass) -> tf.Tensor:
        """Pool [B, S, H] at each row's first or last real token, as the family does -> [B, H]."""
        assert self.pooler is not None, "this encoder was built without a pooler"
        return tf.tanh(self.pooler(self.pooled_state(sequence_output, attention_mask), run=run))

    def pooled_state(self, sequence_output: tf.Tensor, attention_mask: tf.Tensor) -> tf.Tensor:
        """Return the state of [B, S, H] that is pooled, that of each row's first or last real token, [B, H]."""
        ranked = attention_mask if self.pooled_token == "first" else tf.cumsum(attention_mask, axis=1)
        token = tf.argmax(ranked, axis=1, output_type=tf.int32)
        return tf.gather(sequence_output, token, axis=1, batch_dims=1)


def _recomputed(layer: TransformerLayer, x: tf.Tensor, arguments: tuple[tf.Tensor, ...], run: Pass) -> tf.Tensor:
    """Run a layer, and again in backward with the same dropout."""
    start = run.copy()

    @tf.recompute_grad
    def function(x: tf.Tensor) -> tf.Tensor:
        own = start.copy()
        y = layer(x, *arguments, run=own)
        run.n_seeds = own.n_seeds
        return y

    return function(x)
