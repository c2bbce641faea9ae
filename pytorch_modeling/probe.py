"""A look inside, for comparison with the twin: what every stage of a training step computes, and the parameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preprocess.types import Batch
from pytorch_modeling.model import MRCModel, parameter_name, to_tensors
from pytorch_modeling.objective import objective
from pytorch_modeling.trainer import autocast

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
    states: list[Tensor] = []
    with torch.inference_mode(), autocast(model.device, precision):
        model.encoder(
            tensors["input_ids"], tensors["attention_mask"], tensors["token_type_ids"], hidden_states=states
        )
    real = batch.inputs["attention_mask"].astype(bool)
    names = ["embedding_output", *(f"layer_{i}" for i in range(len(states) - 1))]
    if states[1] is states[0]:
        del names[1], states[1]
    return {name: _array(state)[real] for name, state in zip(names, states, strict=True)}


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
    with autocast(model.device, precision):
        values = model(tensors)
    assert model.head_spec is not None, "a model without a head has no loss"
    loss = objective(model.head_spec, values, tensors, model.head_spec.n_targets([batch]))
    named = {parameter_name(name): parameter for name, parameter in model.named_parameters()}
    grads = torch.autograd.grad(loss * loss_scale, list(named.values()), allow_unused=True, materialize_grads=True)
    real = batch.inputs["attention_mask"].astype(bool)
    outputs = {
        f"{output.name}_logits": _array(values[output.name])[real if output.per_token else slice(None)]
        for output in model.head_spec.outputs
    }
    outputs["loss"] = _array(loss)
    return outputs, {name: _array(g) / np.float32(loss_scale) for name, g in zip(named, grads, strict=True)}


def parameter_values(model: MRCModel) -> Arrays:
    """Return a copy of every parameter by its framework-neutral name, in the shapes of `parameter_shapes`."""
    return {parameter_name(name): _array(parameter).copy() for name, parameter in model.named_parameters()}


def set_parameters(model: MRCModel, values: Mapping[str, NDArray[np.float32]]) -> None:
    """Set parameters by their framework-neutral names; those that are not named keep their values."""
    named = {parameter_name(name): parameter for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for name, value in values.items():
            named[name].copy_(torch.from_numpy(value))


def _array(x: Tensor) -> NDArray[np.float32]:
    return x.detach().float().cpu().numpy()
