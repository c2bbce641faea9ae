"""AdamW and BERT's Adam with the published exclusions from weight decay, and the linear schedule."""

from __future__ import annotations

import math

import torch
from torch import nn


def linear_schedule(step: int, n_steps: int, n_warmup_steps: int) -> float:
    """Return the factor on the learning rate for optimizer step `step`, counted from 0.

    Rises linearly from 0 over the warm-up, then falls linearly to 0 at n_steps (the rule of
    transformers.get_linear_schedule_with_warmup; the first step of a warm-up has rate 0).
    """
    if step < n_warmup_steps:
        return step / n_warmup_steps
    return max(0.0, (n_steps - step) / max(1, n_steps - n_warmup_steps))


#: --optim -> how many steps its bias correction believes to have been taken before the first one.
_STEPS_BEFORE = {
    "adamw": 0.0,
    # BERT's optimizer has no bias correction. That is AdamW after infinitely many steps: 1 - beta^inf = 1, exactly.
    "bert_adam": math.inf,
}


def build_optimizer(
    model: nn.Module,
    *,
    weight_decay: float,
    adam_beta1: float,
    adam_beta2: float,
    adam_epsilon: float,
    optim: str = "adamw",
) -> torch.optim.AdamW:
    """Build the optimizer over the trainable parameters, with its moments at 0.

    Args:
        model: the model.
        weight_decay: decoupled decay of matrices; biases and LayerNorm parameters (all vectors) have none.
        adam_beta1: decay of the first moment.
        adam_beta2: decay of the second moment.
        adam_epsilon: added to the root of the second moment.
        optim: "adamw" (Loshchilov & Hutter 2019), or "bert_adam": AdamWeightDecayOptimizer of google-research/bert,
            optimization.py, which is AdamW without bias correction.

    Returns:
        the optimizer, its learning rate to be set before each step.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(adam_beta1, adam_beta2), eps=adam_epsilon, fused=True)
    for p in parameters:
        moments = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[p] = {"step": torch.tensor(_STEPS_BEFORE[optim], device=p.device), **moments}
    return optimizer
