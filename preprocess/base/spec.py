"""What a trainer is asked for, in either framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from preprocess.base.methods import Methods


@dataclass(frozen=True, kw_only=True)
class TrainerSpec(Methods):
    """How a model is trained: optimizer, schedule, how a step is computed, and by which methods.

    Args:
        n_steps: optimizer steps of the whole run, the length of the schedule.
        learning_rate: the schedule's peak.
        warmup_ratio: share of n_steps with a rising rate (rounded up).
        weight_decay: decoupled weight decay, none on biases and LayerNorm.
        max_grad_norm: the global gradient norm is clipped to this.
        adam_beta1: decay of Adam's first moment.
        adam_beta2: decay of Adam's second moment.
        adam_epsilon: added to the root of the second moment.
        precision: "fp32", "bf16" or "fp16" (with loss scaling).
        optim: "adamw", "bert_adam" or "adamw8bit" (PyTorch with bitsandbytes).
        loss_scale: with fp16, what the loss is multiplied by on the way back; "dynamic" for a factor that is halved
            after an overflow and doubled after 2000 steps without one.
        gradient_checkpointing: how many of the first layers are computed again in backward instead of keeping what
            they computed.
        auto_find_batch_size: whether a step that runs out of memory leaves everything as it was, so that it can be
            taken again with smaller batches.
        torch_compile: PyTorch: whether the layers are compiled, once per shape of batch.
        fsdp: PyTorch: whether each of several processes keeps a part of the parameters, gradients and moments.
        jit_compile: TensorFlow: whether XLA compiles the step, once per shape of batch; None for doing so on GPUs
            only (on CPUs oneDNN's matrix products are faster).
        distill_hidden: weight of the distance from a teacher's hidden states.
        teacher_width: how wide these are; 0 where they are not matched.
        seed: of what methods draw before the first step.
    """

    n_steps: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    precision: str
    optim: str = "adamw"
    loss_scale: float | Literal["dynamic"] = "dynamic"
    gradient_checkpointing: int = 0
    auto_find_batch_size: bool = False
    torch_compile: bool = False
    fsdp: bool = False
    jit_compile: bool | None = None
    distill_hidden: float = 0.0
    teacher_width: int = 0
    seed: int = 0
