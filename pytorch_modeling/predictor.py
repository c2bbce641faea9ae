"""From batches to outputs and hidden states, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from preprocess.types import INPUTS, Batch, Outputs, input_names
from pytorch_modeling.distribute import Group
from pytorch_modeling.heads import reported
from pytorch_modeling.model import MRCModel, to_tensors
from pytorch_modeling.trainer import autocast


def predict(model: MRCModel, batches: Iterable[Batch], *, precision: str = "fp32") -> Iterator[Outputs]:
    """Yield the outputs of each batch, float32, in the order of the batches.

    The processes of a group, given the same batches, take turns at them, and each yields the outputs of all.
    """
    model.eval()
    group, remaining = Group.current(), iter(batches)
    while turn := list(islice(remaining, group.size)):
        # All run the model, as the processes of a sharded one have to.
        own = _outputs(model, turn[min(group.rank, len(turn) - 1)], precision)
        yield from group.gather(own)[: len(turn)]


def _outputs(model: MRCModel, batch: Batch, precision: str) -> Outputs:
    # Not inference_mode: what a sharded model borrows in it can't take part in training afterwards.
    with torch.no_grad(), autocast(model.device, precision), _linear_maps(model.device, precision):
        assert model.head_spec is not None, "a model without a head predicts nothing"
        tensors = to_tensors(batch, model.device)
        inputs = {name: tensors[name] for name in input_names(model.head_spec)}
        values = reported(model.head_spec, model(inputs), tensors)
    return Outputs(batch.window, {name: _array(value) for name, value in values.items()})


def _linear_maps(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which linear maps are computed by what is fastest on a device."""
    by_onednn = device.type == "cpu" and precision == "fp32" and torch.backends.mkldnn.is_available()
    return _OneDNN() if by_onednn else nullcontext()


#: Rows that are multiplied at a time: batches have multiples of 32, so there are 16 numbers of rows for long.
_BLOCK = 512


class _OneDNN(TorchFunctionMode):
    """Computes the linear maps of float32 tensors by oneDNN, which has kernels for every processor's widest vectors.

    PyTorch gives float32 to MKL, which was half as fast on an EPYC with AVX512. The matrices stay as they are: in
    oneDNN's own order they were 3 % faster, and would take their memory once more. oneDNN keeps what it has compiled
    for each number of rows, about a megabyte; so many rows are taken a block at a time.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, or oneDNN in the place of `F.linear`."""
        if func is F.linear and not kwargs and all(x is None or x.dtype == torch.float32 for x in args):
            x, weight, bias = (*args, None)[:3]
            blocks = x.reshape(-1, x.shape[-1]).split(_BLOCK)
            parts = [torch.ops.mkldnn._linear_pointwise(block, weight, bias, "none", [], "") for block in blocks]
            return (torch.cat(parts) if len(parts) > 1 else parts[0]).view(*x.shape[:-1], weight.shape[0])
        return func(*args, **(kwargs or {}))


def release_memory() -> None:
    """Give memory back to the GPU that is kept for models that are gone."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
    model.eval()
    inputs = (
        torch.from_numpy(x.astype(np.int64)).to(model.device) for x in (input_ids, attention_mask, token_type_ids)
    )
    ids, mask, types = inputs
    states: list[Tensor] = []
    with torch.inference_mode():
        last = model.encoder(ids, mask, types, hidden_states=states)
        named = {"embedding_output": states[0]} | {f"layer_{i}": x for i, x in enumerate(states[1:])}
        named["sequence_output"] = last
        if model.encoder.pooler is not None:
            named["pooled_output"] = model.encoder.pool(last, mask)
    return {name: _array(x) for name, x in named.items()}


def last_states(model: MRCModel, batch: Batch) -> NDArray[np.float32]:
    """Compute what the encoder outputs for each token of a batch, in float32: [B, L, H]."""
    model.eval()
    tensors = to_tensors(replace(batch, soft={}), model.device)
    with torch.no_grad(), _linear_maps(model.device, "fp32"):
        return _array(model.encoder(*(tensors[name] for name in INPUTS)))


def _array(x: Tensor) -> NDArray[np.float32]:
    return x.float().cpu().numpy()
