"""Options about what computes, and how precisely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from experiment.options.fields import AT_LEAST_0, Rule
from experiment.options.windows import Size

Framework = Literal["pytorch", "tensorflow"]
#: What can compute answers: a backend, or what computes the graph that a checkpoint is exported as first.
Engine = Literal["pytorch", "tensorflow", "onnx", "openvino"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """Precision and devices."""

    device: str = "auto"
    """auto (the first GPU, else the CPU), cpu, cuda:N, or cuda (TensorFlow: all GPUs; PyTorch: the first). Under
    torchrun each process has a GPU of its own."""


@dataclass(frozen=True, kw_only=True)
class DeviceChoice(Device):
    """Precision and devices."""

    framework: Framework = "pytorch"
    """Backend that computes."""


@dataclass(frozen=True, kw_only=True)
class EngineChoice(Device):
    """Precision and devices."""

    framework: Engine = "pytorch"
    """Backend that computes; or, on the CPU, onnx (onnxruntime, in float32) or openvino (float32 or bfloat16)."""


@dataclass(frozen=True, kw_only=True)
class EngineOfTraining(Device):
    """Precision and devices."""

    framework: Engine | None = None
    """Backend that computes; or, on the CPU, onnx (onnxruntime, in float32) or openvino (float32 or bfloat16)
    (default: the backend that trained the run, and PyTorch for single checkpoints)."""


@dataclass(frozen=True, kw_only=True)
class PrecisionOptions:
    """Precision and devices."""

    bf16: bool = False
    """Compute in bfloat16; weights stay in float32."""
    fp16: bool = False
    """Compute in float16 with loss scaling; weights stay in float32."""
    per_device_eval_batch_size: Size = 32
    """Windows per batch in evaluation."""


@dataclass(frozen=True, kw_only=True)
class StepPrecisionOptions:
    """Precision and devices."""

    tf32: bool = False
    """On GPUs, round the factors of float32 matrix products to TF32; faster, and less exact."""
    gradient_checkpointing: Annotated[int, AT_LEAST_0] = 0
    """Compute so many of the first layers again in backward: less memory, more time, the same numbers."""


def _is_loss_scale(text: str) -> bool:
    try:
        return text == "dynamic" or 0 < float(text) < float("inf")
    except ValueError:
        return False


LossScale = Annotated[str, Rule("dynamic or a number above 0", _is_loss_scale)]


@dataclass(frozen=True, kw_only=True)
class TrainingDeviceOptions:
    """Precision and devices."""

    loss_scale: LossScale | None = None
    """With --fp16, what the loss is multiplied by: dynamic (halved after an overflow, doubled after 2000 steps
    without one), or a number that stays (default: dynamic)."""
    auto_find_batch_size: bool = False
    """Where memory runs out in training, halve the forward passes, double their number, and take the step again."""
    full_determinism: bool = False
    """On GPUs, use only algorithms that compute the same bits each time, so that the same command gives the same
    weights, as on one CPU it does anyway; slower."""
    torch_compile: bool = False
    """PyTorch: compile the model's layers, once per shape of batch."""
    fsdp: bool = False
    """PyTorch under torchrun: each process keeps a part of the parameters, gradients and moments."""
    jit_compile: bool | None = None
    """TensorFlow: let XLA compile the training step, once per shape of batch (default: on GPUs only)."""
