"""From batches to outputs and hidden states, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from preprocess.types import INPUTS, Batch, Outputs, input_names
from tf_modeling.graph import traced
from tf_modeling.heads import reported
from tf_modeling.model import MRCModel, on_gpu, to_tensors
from tf_modeling.nn import Pass
from tf_modeling.trainer import AUTOCAST_DTYPES


def predict(
    model: MRCModel, batches: Iterable[Batch], *, precision: str = "fp32", jit_compile: bool | None = None
) -> Iterator[Outputs]:
    """Yield the outputs of each batch, float32, in the order of the batches.

    With `jit_compile` XLA compiles the model, once per shape of batch; None for doing so on GPUs only.
    """
    jit_compile = on_gpu(model) if jit_compile is None else jit_compile
    head = model.head_spec
    assert head is not None, "a model without a head predicts nothing"
    names = (*input_names(head), *(output.name for output in head.outputs if output.reads == "vocabulary"))

    def build() -> Callable[..., dict[str, tf.Tensor]]:
        def forward(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return reported(head, model(inputs, run=Pass(AUTOCAST_DTYPES[precision])), inputs)

        signature = [{name: tf.TensorSpec([None, None], tf.int32) for name in names}]
        return traced(forward, signature, jit_compile)

    forward = model.compiled(("predict", precision, jit_compile), build)
    for batch in batches:
        tensors = to_tensors(batch, model.device)
        with tf.device(model.device):
            values = forward({name: tensors[name] for name in names})
        yield Outputs(batch.window, {name: value.numpy() for name, value in values.items()})


def release_memory() -> None:
    """Give memory back to the GPU that is kept for models that are gone: TensorFlow keeps its own until it ends."""


def hidden_states(
    model: MRCModel,
    input_ids: NDArray[np.integer],
    attention_mask: NDArray[np.integer],
    token_type_ids: NDArray[np.integer],
) -> dict[str, NDArray[np.float32]]:
    """Compute what the encoder outputs at every layer, in float32.

    Args:
        model: any model.
        input_ids: int [B, S].
        attention_mask: int [B, S], 1 = real token.
        token_type_ids: int [B, S].

    Returns:
        "embedding_output" [B, S, E], "layer_0" (what enters the first layer, after a projection of the embeddings),
        "layer_1" … "layer_L" [B, S, H], "sequence_output" (the last of them), and "pooled_output" [B, H] if the model
        has a pooler. An ALBERT's inner groups count as layers.
    """
    states: list[tf.Tensor] = []
    with tf.device(model.device):
        ids, mask, types = (tf.constant(x, tf.int32) for x in (input_ids, attention_mask, token_type_ids))
        # Not through Keras's __call__: it would fill a copy of the list.
        last = model.encoder.call(ids, mask, types, run=Pass(), hidden_states=states)
        named = {"embedding_output": states[0]} | {f"layer_{i}": x for i, x in enumerate(states[1:])}
        named["sequence_output"] = last
        if model.encoder.pooler is not None:
            named["pooled_output"] = model.encoder.pool(last, mask, run=Pass())
    return {name: x.numpy() for name, x in named.items()}


def last_states(model: MRCModel, batch: Batch) -> NDArray[np.float32]:
    """Compute what the encoder outputs for each token of a batch, in float32: [B, L, H]."""

    def build() -> Callable[..., tf.Tensor]:
        def forward(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
            return model.encoder(*(inputs[name] for name in INPUTS), run=Pass())

        return traced(forward, [{name: tf.TensorSpec([None, None], tf.int32) for name in INPUTS}], on_gpu(model))

    forward = model.compiled(("last_states",), build)
    tensors = to_tensors(replace(batch, soft={}), model.device)
    with tf.device(model.device):
        return forward({name: tensors[name] for name in INPUTS}).numpy()
