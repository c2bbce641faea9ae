"""A model for extractive MRC: an encoder of some family and a head."""

from __future__ import annotations

import os
import random
import resource
import sys
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from preprocess.types import PLACES, Batch, HeadSpec, soft_name
from pretrained_configs.config import ModelConfig
from pytorch_modeling.distribute import Group
from pytorch_modeling.families import encoder_class
from pytorch_modeling.heads import Head
from pytorch_modeling.layers import initialise

#: Of a batch's tensors the one that says on the CPU which tokens are real.
HOST_MASK = "host_mask"


class MRCModel(nn.Module):
    """Encoder and head; without a head it is the bare pretrained model.

    Its parameters carry the framework-neutral names of the name maps (`parameter_name`).
    """

    def __init__(self, config: ModelConfig, head: HeadSpec | None) -> None:
        """Build the modules; a pooler exists where something reads it."""
        super().__init__()
        self.config = config
        self.head_spec = head
        self.encoder = encoder_class(config.model_type)(config, pooled=head is None or head.reads("sequence"))
        self.head = Head(config, head) if head is not None else None

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the values of the head's outputs for a batch, by name; see `Output`.

        Targets in the batch are there to be learned from: what is given to an output is then its target.
        """
        assert self.head is not None, "this model was built without a head"
        mask = batch["attention_mask"]
        host_mask = batch.get(HOST_MASK)
        sequence_output = self.encoder(batch["input_ids"], mask, batch["token_type_ids"], host_mask=host_mask)
        pooled = self.encoder.pool(sequence_output, mask) if self.encoder.pooler is not None else None
        state = (
            self.encoder.pooled_state(sequence_output, mask).float()
            if self.head.spec.reads("sequence_given")
            else None
        )
        # A product with the word table is as large as a layer's, and runs in the precision of these.
        pieces = self.head.pieces(sequence_output, batch[PLACES], self.encoder.embeddings) if PLACES in batch else {}
        # The rest is tiny, and logits rounded to 8 bits would tie: it computes in float32 whatever the precision.
        with torch.autocast(mask.device.type, enabled=False):
            own = self.head(sequence_output.float(), None if pooled is None else pooled.float(), state, batch)
        return own | pieces

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return next(self.parameters()).device


def parameter_name(module_name: str) -> str:
    """Translate a name of `MRCModel.named_parameters` to the framework-neutral one."""
    return module_name.removeprefix("encoder.")


def outline(config: ModelConfig, head: HeadSpec | None) -> MRCModel:
    """Build a model whose parameters have shapes, and neither values nor memory."""
    with torch.device("meta"):
        return MRCModel(config, head)


def draw_fresh(model: MRCModel, names: Collection[str], seed: int) -> None:
    """Draw the values of whole modules, by the framework-neutral names of their parameters."""
    paths = {name.rpartition(".")[0] for name in names}
    fresh = [module for path, module in model.named_modules() if parameter_name(path) in paths]
    for module in fresh:
        module.to_empty(device="cpu", recurse=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initialise(fresh, model.config.initializer_range)


def build_model(config: ModelConfig, head: HeadSpec | None, *, device: str, seed: int = 0) -> MRCModel:
    """Build a model with fresh weights, in float32.

    Args:
        config: the architecture.
        head: what the task needs; None for the bare encoder with its pooler.
        device: one of `devices()`.
        seed: seed of the fresh weights; the same on every device.

    Returns:
        the model, in evaluation mode.
    """
    model = outline(config, head)
    draw_fresh(model, [parameter_name(name) for name, _ in model.named_parameters()], seed)
    return model.to(device).eval()


def set_seed(seed: int) -> None:
    """Seed Python's, numpy's and PyTorch's generators, on all devices."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def allow_tf32(allowed: bool) -> None:
    """Say whether GPUs may round the factors of float32 matrix products to 10 bits of mantissa, on all of them."""
    torch.backends.cuda.matmul.allow_tf32 = allowed


def be_deterministic(wanted: bool) -> None:
    """Say whether GPUs may use only algorithms that compute the same bits each time; before any is used."""
    if wanted:
        # cuBLAS looks for it when it is first called, and adds up in an order of its own choice without it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)


def devices() -> tuple[str, ...]:
    """Return "cuda:0" … for the GPUs there are (of several processes: for this one's), then "cpu"."""
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if gpus and Group.current().size > 1:
        gpus = [gpus[torch.cuda.current_device()]]
    return (*gpus, "cpu")


def n_devices(device: str) -> int:
    """Return how many devices share each batch: one for each process."""
    return Group.current().size


def device_facts(model: MRCModel) -> dict[str, Any]:
    """Return "device", its name, and "peak_bytes", the most memory held so far (of the process, on a CPU)."""
    if model.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(model.device)
        return {"device": torch.cuda.get_device_name(model.device), "peak_bytes": peak}
    # ru_maxrss counts KiB on Linux and bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"device": f"CPU, {torch.get_num_threads()} threads", "peak_bytes": peak}


def to_tensors(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """Copy a batch to the device as int64 tensors: inputs and targets by their names, "group" and "answered".

    Soft targets, by their `soft_name`s, are float32. For a GPU there is the mask once more, bool, which
    stays on the CPU.
    """
    columns = {**batch.inputs, **batch.targets, "group": batch.group}
    if batch.answered is not None:
        columns["answered"] = batch.answered.astype(np.int32)
    tensors = {name: _to_device(np.asarray(column, np.int64), device) for name, column in columns.items()}
    if device.type == "cuda":
        tensors[HOST_MASK] = torch.from_numpy(batch.inputs["attention_mask"] != 0)
    return tensors | {soft_name(name): _to_device(column, device) for name, column in batch.soft.items()}


def _to_device(column: NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(column)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
