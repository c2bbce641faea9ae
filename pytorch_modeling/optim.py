"""AdamW, BERT's Adam and 8-bit AdamW, with the published exclusions from weight decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

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
) -> torch.optim.Optimizer:
    """Build the optimizer over the trainable parameters, with its moments at 0.

    Args:
        model: the model.
        weight_decay: decoupled decay of matrices; biases and LayerNorm parameters (all vectors) have none.
        adam_beta1: decay of the first moment.
        adam_beta2: decay of the second moment.
        adam_epsilon: added to the root of the second moment.
        optim: "adamw" (Loshchilov & Hutter 2019); "bert_adam": AdamWeightDecayOptimizer of google-research/bert,
            optimization.py, which is AdamW without bias correction; or "adamw8bit": bitsandbytes' AdamW8bit (Dettmers
            et al. 2022), whose moments take a byte each, except those of embeddings and small tensors.

    Returns:
        the optimizer, its learning rate to be set before each step, times the "share" of each group; and its
        `found_inf`, a scalar tensor: not 0 if the step is to have no effect.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay, "share": 1.0},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0, "share": 1.0},
    ]
    arguments: dict[str, Any] = {"lr": 0.0, "betas": (adam_beta1, adam_beta2), "eps": adam_epsilon}
    if optim == "adamw8bit":
        tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
        return _adamw8bit(groups, tables, arguments)
    optimizer = torch.optim.AdamW(groups, **arguments, fused=True)
    for p in parameters:
        moments = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[p] = {"step": torch.tensor(_STEPS_BEFORE[optim], device=p.device), **moments}
    return optimizer


def scale_rates(optimizer: torch.optim.Optimizer, trained: Mapping[str, Tensor], shares: Mapping[str, float]) -> None:
    """Give each parameter a share of the learning rate.

    Args:
        optimizer: of `build_optimizer`.
        trained: its parameters, by name.
        shares: of each of them; 1 before.
    """
    share_of = {p: shares[name] for name, p in trained.items()}
    optimizer.param_groups[:] = [
        {**group, "params": [p for p in group["params"] if share_of[p] == share], "share": share}
        for group in optimizer.param_groups
        for share in dict.fromkeys(share_of[p] for p in group["params"])
    ]


def _adamw8bit(groups: list[dict[str, Any]], tables: set[Tensor], arguments: dict[str, Any]) -> Any:
    from bitsandbytes.optim import AdamW8bit

    class Optimizer(AdamW8bit):
        """Reads `found_inf`, for which the host has to wait, and keeps four bytes per moment of embeddings."""

        found_inf: Tensor

        def step(self, closure: Any = None) -> Any:
            return None if self.found_inf.item() else super().step(closure)

        def get_config(self, group_index: int, index: int, group: dict[str, Any]) -> dict[str, Any]:
            config = super().get_config(group_index, index, group)
            return config | ({"optim_bits": 32} if group["params"][index] in tables else {})

    optimizer = Optimizer(groups, **arguments)
    for group_index, group in enumerate(optimizer.param_groups):
        for index, p in enumerate(group["params"]):
            optimizer.init_state(group, p, group_index, index)
    return optimizer
