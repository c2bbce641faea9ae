"""Known GPUs, what they can compute at most, and what a model asks of them.

A peak is that of dense matrix products with sums in float32: data sheets mostly print twice as much, "with sparsity",
for matrices half of whose elements are 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pretrained_configs.config import ModelConfig

Length = TypeVar("Length", int, NDArray[np.int64])


@dataclass(frozen=True, slots=True)
class Device:
    """A kind of GPU.

    Args:
        name: short name, for `plan --gpu`.
        pattern: regular expression for the whole of what torch.cuda.get_device_name returns.
        memory_gb: of the data sheet, taken as 10^9 bytes. It is GiB to most makers; what a driver, and error
            correction on cards without HBM, leave of that is never less than so many 10^9 bytes.
        tflops: precision ("fp32", "tf32", "fp16", "bf16") -> peak, in 10^12 FLOP/s; those it has units for.
        source: where the figures are from.
    """

    name: str
    pattern: str
    memory_gb: int
    tflops: dict[str, float]
    source: str


def _tensor(fp32: float, tf32: float, half: float) -> dict[str, float]:
    """Return the peaks of a GPU of the Ampere generation or later."""
    return {"fp32": fp32, "tf32": tf32, "fp16": half, "bf16": half}


def _older(fp32: float, fp16: float) -> dict[str, float]:
    """Return the peaks of a GPU of the Volta or Turing generation, which have neither TF32 nor bfloat16."""
    return {"fp32": fp32, "fp16": fp16}


_A100, _H100 = _tensor(19.5, 156, 312), _tensor(66.9, 494.7, 989.4)
_A100_SHEET = "NVIDIA A100 Tensor Core GPU data sheet, 2021"
_H100_PAPER = "NVIDIA H100 Tensor Core GPU Architecture white paper; the data sheet prints twice as much"
_V100_SHEET = "NVIDIA V100 Tensor Core GPU data sheet, 2020"
_ADA_PAPER = "NVIDIA Ada GPU Architecture white paper"
_GA102_PAPER = "NVIDIA Ampere GA102 GPU Architecture white paper"

#: The A800 and H800 compute like the A100 and H100; the links between them are slower.
DEVICES = (
    Device("h200", r"NVIDIA H200", 141, _H100, "NVIDIA H200 Tensor Core GPU data sheet, 2024: as the H100 SXM"),
    Device("h100", r"NVIDIA H[18]00 80GB HBM3|NVIDIA H800", 80, _H100, _H100_PAPER),
    Device("h100-nvl", r"NVIDIA H100 NVL", 94, _tensor(60, 417.5, 835.5), "NVIDIA H100 data sheet, 2024, halved"),
    Device("h100-pcie", r"NVIDIA H[18]00 PCIe", 80, _tensor(51.2, 378, 756), _H100_PAPER),
    Device("a100-80gb", r"NVIDIA A[18]00-SXM4-80GB|NVIDIA A[18]00 80GB PCIe", 80, _A100, _A100_SHEET),
    Device("a100-40gb", r"(NVIDIA )?A[18]00-(SXM4|PCIE)-40GB", 40, _A100, _A100_SHEET),
    Device("l40s", r"NVIDIA L40S", 48, _tensor(91.6, 183, 362), "NVIDIA L40S data sheet, 2023"),
    Device("a40", r"NVIDIA A40", 48, _tensor(37.4, 74.8, 149.7), "NVIDIA A40 data sheet, 2021"),
    Device("a30", r"NVIDIA A30", 24, _tensor(10.3, 82, 165), "NVIDIA A30 data sheet, 2021"),
    Device("a10", r"NVIDIA A10", 24, _tensor(31.2, 62.5, 125), "NVIDIA A10 data sheet, 2021"),
    Device("l4", r"NVIDIA L4", 24, _tensor(30.3, 60, 121), "NVIDIA L4 data sheet, 2023, halved"),
    Device(
        "rtx4090",
        r"NVIDIA GeForce RTX 4090",
        24,
        _tensor(82.6, 82.6, 165.2),
        "NVIDIA Ada GPU Architecture white paper",
    ),
    Device(
        "rtx3090",
        r"NVIDIA GeForce RTX 3090",
        24,
        _tensor(35.6, 35.6, 71),
        "NVIDIA Ampere GA102 GPU Architecture white paper",
    ),
    Device("v100-32gb", r"(Tesla|NVIDIA) V100-SXM[23]-32GB.*", 32, _older(15.7, 125), _V100_SHEET),
    Device("v100-16gb", r"(Tesla|NVIDIA) V100-SXM2-16GB", 16, _older(15.7, 125), _V100_SHEET),
    Device("t4", r"(Tesla|NVIDIA) T4", 16, _older(8.1, 65), "NVIDIA T4 data sheet, 2019"),
)


def peak_flops(device_name: str, precision: str) -> float | None:
    """Return what a GPU computes at most.

    Args:
        device_name: what torch.cuda.get_device_name returns; a part of a GPU (MIG) has another name than the whole.
        precision: "fp32", "tf32" (float32 with --tf32), "fp16" or "bf16".

    Returns:
        FLOP/s of dense matrix products; None if the GPU is not in the table, or has no units for that precision.
    """
    for device in DEVICES:
        if re.fullmatch(device.pattern, device_name):
            tflops = device.tflops.get(precision)
            return tflops * 1e12 if tflops is not None else None
    return None


def n_layers(config: ModelConfig) -> int:
    """Return how many layers the input runs through; those that share parameters count each time."""
    return config.num_hidden_layers * config.inner_group_num


def forward_flops(config: ModelConfig, length: Length) -> Length:
    """Return the floating-point operations of the matrix products of a forward pass, two per multiply-add.

    Embeddings are look-ups and count nothing, nor does what is computed once per window (pooler, answer kinds).

    Args:
        config: the architecture.
        length: tokens of one window, padding included where it is computed; or of several, int64 [W].

    Returns:
        FLOPs per window, of the type of `length`.
    """
    hidden = config.hidden_size
    matrices = 4 * hidden * hidden + 2 * hidden * config.intermediate_size // config.ffn_num_groups
    outside = 2 * hidden  # the head's start and end
    if config.embedding_projection != "none":
        outside += config.embedding_size * hidden
    per_token = 2 * (n_layers(config) * matrices + outside)
    attention = 4 * n_layers(config) * hidden  # q k^T and the sum over v
    return per_token * length + attention * length * length


def training_flops(config: ModelConfig, length: Length) -> Length:
    """Return the FLOPs of forward and backward pass, which has two products for each of the forward pass.

    What --gradient_checkpointing computes again is not in it: model-FLOP utilisation asks what the model needs.
    """
    return 3 * forward_flops(config, length)
