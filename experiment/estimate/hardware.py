"""Known GPUs and this machine: what they have and can compute, and what a model asks of them.

A peak is that of dense matrix products with sums in float32: data sheets mostly print twice as much, "with sparsity",
for matrices half of whose elements are 0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocess.base.errors import UsageError
from preprocess.base.names import did_you_mean
from pretrained_configs.config import ModelConfig
from pretrained_configs.families.base import Length


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
    Device("rtx4090", r"NVIDIA GeForce RTX 4090", 24, _tensor(82.6, 82.6, 165.2), _ADA_PAPER),
    Device("rtx3090", r"NVIDIA GeForce RTX 3090", 24, _tensor(35.6, 35.6, 71), _GA102_PAPER),
    Device("v100-32gb", r"(Tesla|NVIDIA) V100-SXM[23]-32GB.*", 32, _older(15.7, 125), _V100_SHEET),
    Device("v100-16gb", r"(Tesla|NVIDIA) V100-SXM2-16GB", 16, _older(15.7, 125), _V100_SHEET),
    Device("t4", r"(Tesla|NVIDIA) T4", 16, _older(8.1, 65), "NVIDIA T4 data sheet, 2019"),
)


def device_named(name: str | None) -> Device | None:
    """Return the GPU of a short name, in any case; None for none.

    Raises:
        UsageError: for a name that is not known.
    """
    names = [device.name for device in DEVICES]
    if name is not None and name.lower() not in names:
        raise UsageError(f"--gpu {name}: unknown{did_you_mean(name.lower(), names)}; known: {', '.join(names)}")
    return next((device for device in DEVICES if name is not None and device.name == name.lower()), None)


def known_device(names: Sequence[str]) -> Device | None:
    """Return the first kind of GPU that one of these is, as torch.cuda.get_device_name calls it."""
    return next((device for device in DEVICES for name in names if re.fullmatch(device.pattern, name)), None)


def peak_flops(device_name: str, precision: str) -> float | None:
    """Return what a GPU computes at most.

    Args:
        device_name: what torch.cuda.get_device_name returns; a part of a GPU (MIG) has another name than the whole.
        precision: "fp32", "tf32" (float32 with --tf32), "fp16" or "bf16".

    Returns:
        FLOP/s of dense matrix products; None if the GPU is not in the table, or has no units for that precision.
    """
    device = known_device([device_name])
    tflops = device.tflops.get(precision) if device is not None else None
    return tflops * 1e12 if tflops is not None else None


def host_memory(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory that the processes of this machine, or of this container, may take.

    Args:
        cgroups: where Linux says what a container may take, in the layout of version 2 or 1.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in (cgroups / "memory.max", cgroups / "memory" / "memory.limit_in_bytes"):
        if file.is_file() and (limit := file.read_text().strip()).isdigit():  # else "max"
            limits.append(int(limit))
    return min(limits)


def bf16_is_slow(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Say why training in bfloat16 is slower on this CPU than in float32; None where it is not, or not known to be.

    Args:
        cpuinfo: what Linux says of the processor.
    """
    if not cpuinfo.is_file():
        return None
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(), re.M)
    if match is None or {"amx_bf16", "avx512_bf16", "bf16"} & set(match[1].split()):  # Intel and AMD; ARM
        return None
    return (
        "this CPU has no instructions for bfloat16 (AMX or AVX512-bf16): --bf16 is slower here than float32 "
        "(0.4 times its speed was measured)"
    )


def forward_flops(config: ModelConfig, length: Length) -> Length:
    """Return the floating-point operations of the matrix products of a forward pass, two per multiply-add.

    Args:
        config: the architecture.
        length: tokens of one window, padding included where it is computed; or of several, int64 [W].

    Returns:
        FLOPs per window, of the type of `length`.
    """
    head = 2 * config.hidden_size  # start and end
    return config.family.forward_flops(config, length) + 2 * head * length


def training_flops(config: ModelConfig, length: Length) -> Length:
    """Return the FLOPs of forward and backward pass, which has two products for each of the forward pass.

    What --gradient_checkpointing computes again is not in it: model-FLOP utilisation asks what the model needs.
    """
    return 3 * forward_flops(config, length)
