"""A look inside, for comparison with the twin: what every stage of a training step computes, and the parameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from preprocess.types import Batch
from tf_modeling.model import MRCModel, parameters, to_tensors
from tf_modeling.nn import Pass
from tf_modeling.objective import objective
from tf_modeling.trainer import AUTOCAST_DTYPES

Arrays = dict[str, NDArray[np.float32]]


def activations(model: MRCModel, batch: Batch, *, precision: str) -> Arrays:
    """Compute what the encoder outputs at every layer, at the real tokens.

    Args:
        model: has no dropout.
        batch: B windows, with N real tokens in all.
        precision: "fp32", "bf16" or "fp16".

    Returns:
        float32 by name: "embedding_output" [N, E], "layer_0" [N, H] if the embeddings are projected on the way to the
        first layer, "layer_1" … "layer_L" [N, H].
    """
    tensors = to_tensors(batch, model.device)
    inputs = (tensors["input_ids"], tensors["attention_mask"], tensors["token_type_ids"])
    states: list[tf.Tensor] = []
    with tf.device(model.device):
        # Not through Keras's __call__: it would fill a copy of the list.
        model.encoder.call(*inputs, run=Pass(AUTOCAST_DTYPES[precision]), hidden_states=states)
    real = batch.inputs["attention_mask"].astype(bool)
    names = ["embedding_output", *(f"layer_{i}" for i in range(len(states) - 1))]
    if states[1] is states[0]:
        del names[1], states[1]
    return {name: state.numpy()[real] for name, state in zip(names, states, strict=True)}


def gradients(model: MRCModel, batch: Batch, *, precision: str, loss_scale: float = 1.0) -> tuple[Arrays, Arrays]:
    """Compute logits, loss and the gradient of every parameter; the model is not changed.

    Args:
        model: has no dropout.
        batch: B windows, with N real tokens in all.
        precision: "fp32", "bf16" or "fp16".
        loss_scale: factor on the loss on the way back, which float16 needs; the gradients returned are without it.

    Returns:
        float32 by name: "NAME_logits" of every output, at the real tokens [N] where it has values for each, and
        "loss" [], as training computes it; and the gradients by the parameters' framework-neutral names.
    """
    tensors = to_tensors(batch, model.device)
    named = parameters(model)
    head = model.head_spec
    assert head is not None, "a model without a head has no loss"
    with tf.device(model.device):
        with tf.GradientTape() as tape:
            values = model(tensors, run=Pass(AUTOCAST_DTYPES[precision]))
            loss = objective(head, values, tensors, {name: float(n) for name, n in head.n_targets([batch]).items()})
            scaled = loss * loss_scale
        variables = [parameter.variable.value for parameter in named.values()]
        grads = tape.gradient(scaled, variables, unconnected_gradients="zero")
        dense = [tf.convert_to_tensor(gradient) for gradient in grads]
    real = batch.inputs["attention_mask"].astype(bool)
    outputs = {
        f"{output.name}_logits": values[output.name].numpy()[real if output.per_token else slice(None)]
        for output in head.outputs
    }
    outputs["loss"] = loss.numpy()
    neutral = zip(named.items(), dense, strict=True)
    return outputs, {name: parameter.neutral(g) / np.float32(loss_scale) for (name, parameter), g in neutral}


def parameter_values(model: MRCModel) -> Arrays:
    """Return a copy of every parameter by its framework-neutral name, in the shapes of `parameter_shapes`."""
    return {name: p.neutral(p.variable.value).copy() for name, p in parameters(model).items()}


def set_parameters(model: MRCModel, values: Mapping[str, NDArray[np.float32]]) -> None:
    """Set parameters by their framework-neutral names; those that are not named keep their values."""
    named = parameters(model)
    for name, value in values.items():
        named[name].assign(value)
