"""Options about steps: how many, how large, and how parameters move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from experiment.options.fields import ABOVE_0, AT_LEAST_0, Rule
from experiment.options.windows import Size

Optim = Literal["adamw", "bert_adam", "adamw8bit"]
#: --optim -> its --adam_epsilon.
ADAM_EPSILON: dict[Optim, float] = {"adamw": 1e-8, "bert_adam": 1e-6, "adamw8bit": 1e-8}
Epochs = Annotated[float, Rule("more than 0 and at most 1000000", lambda x: 0 < x <= 10**6)]
Positive = Annotated[float, ABOVE_0]
NotNegative = Annotated[float, AT_LEAST_0]
Beta = Annotated[float, Rule("at least 0 and less than 1", lambda x: 0 <= x < 1)]
Seed = Annotated[int, Rule("between 0 and 2**32 - 1", lambda x: 0 <= x < 2**32)]
Seeds = Annotated[
    tuple[Seed, ...], Rule("at least one seed, and each once", lambda x: len(x) > 0 and len(set(x)) == len(x))
]


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """Optimisation."""

    num_train_epochs: Epochs | None = None
    """Passes over the training data."""
    per_device_train_batch_size: Size | None = None
    """Windows per forward pass and device."""
    gradient_accumulation_steps: Size = 1
    """Forward passes per optimizer step."""
    seeds: Seeds = (123, 456, 789, 556, 977)
    """One model is trained per seed."""
    eval_epochs: Positive = 0.5
    """Evaluate every so many epochs, and at the end."""
    group_by_length: bool = True
    """Batch windows of like length."""


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """Optimisation."""

    learning_rate: NotNegative | None = None
    """Peak learning rate."""
    warmup_ratio: Annotated[float, Rule("between 0 and 1", lambda x: 0 <= x <= 1)] | None = None
    """Share of all steps with a rising rate."""
    weight_decay: NotNegative | None = None
    """Decoupled weight decay, none on biases and LayerNorm."""
    optim: Optim = "adamw"
    """Optimizer: AdamW; that of BERT's authors, which is AdamW without bias correction; or AdamW whose moments take
    a byte each (PyTorch with bitsandbytes)."""
    adam_beta1: Beta = 0.9
    """Adam's beta1."""
    adam_beta2: Beta = 0.999
    """Adam's beta2."""
    adam_epsilon: Positive | None = None
    """Adam's epsilon (default: 1e-8; 1e-6 with --optim bert_adam)."""
    max_grad_norm: Positive = 1.0
    """Clip the global gradient norm to this."""
