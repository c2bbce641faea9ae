"""The training step: forward, backward, clipping, AdamW, schedule, in float32, bfloat16 or float16."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from preprocess.types import SPAN_KIND, Batch
from pytorch_modeling.heads import kind_loss, span_loss
from pytorch_modeling.model import MRCModel, to_tensors
from pytorch_modeling.optim import build_optimizer, linear_schedule

#: --bf16 / --fp16 -> what matrix products run in; weights and optimizer state stay in float32.
AUTOCAST_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context of a precision, "fp32", "bf16" or "fp16"."""
    dtype = AUTOCAST_DTYPES[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


class Trainer:
    """Takes optimizer steps on a model.

    The loop around it (epochs, evaluation, records) is framework-neutral and lives elsewhere: this class is all that
    a framework has to do.
    """

    def __init__(
        self,
        model: MRCModel,
        *,
        n_steps: int,
        learning_rate: float,
        warmup_ratio: float,
        weight_decay: float,
        max_grad_norm: float,
        adam_beta1: float,
        adam_beta2: float,
        adam_epsilon: float,
        precision: str,
    ) -> None:
        """Prepare the optimizer.

        Args:
            model: trained in place.
            n_steps: optimizer steps of the whole run, the length of the schedule.
            learning_rate: the schedule's peak.
            warmup_ratio: share of n_steps with a rising rate (rounded up).
            weight_decay: decoupled weight decay, none on biases and LayerNorm.
            max_grad_norm: the global gradient norm is clipped to this.
            adam_beta1: AdamW's beta1.
            adam_beta2: AdamW's beta2.
            adam_epsilon: AdamW's epsilon.
            precision: "fp32", "bf16" or "fp16" (with dynamic loss scaling).
        """
        self.model = model
        self.n_steps = n_steps
        self.n_warmup_steps = math.ceil(n_steps * warmup_ratio)
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.precision = precision
        self.optimizer = build_optimizer(
            model, weight_decay=weight_decay, adam_beta1=adam_beta1, adam_beta2=adam_beta2, adam_epsilon=adam_epsilon
        )
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=precision == "fp16")
        self.n_done = 0
        self._losses: list[Tensor] = []
        self._grad_norms: list[Tensor] = []

    def step(self, batches: Sequence[Batch]) -> None:
        """Take one optimizer step on the union of the given batches.

        The loss is the mean over all their windows, so gradient accumulation over k batches gives the step of one
        batch k times as large, however uneven the batches are. Nothing is read back from the device.
        """
        self.model.train()
        n_windows = sum(len(batch) for batch in batches)
        n_kinds = sum(int((batch.kind != SPAN_KIND).sum()) for batch in batches)
        total = torch.zeros((), device=self.model.device)
        for batch in batches:
            loss = self._loss(batch, n_windows, n_kinds)
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self._update()
        self._losses.append(total)

    def _loss(self, batch: Batch, n_windows: int, n_kinds: int) -> Tensor:
        tensors = to_tensors(batch, self.model.device)
        with autocast(self.model.device, self.precision):
            start, end, kind = self.model(tensors)
        loss = span_loss(start, end, tensors) / n_windows
        return loss if kind is None or n_kinds == 0 else loss + kind_loss(kind, tensors["kind"]) / n_kinds

    def _update(self) -> None:
        rate = self.learning_rate * linear_schedule(self.n_done, self.n_steps, self.n_warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.n_done += 1
        self._grad_norms.append(norm)

    def metrics(self) -> dict[str, float]:
        """Return the means since the last call; the only place where the host waits for the device.

        Returns:
            "loss" (per window), "grad_norm" (before clipping, of the steps where it is finite), "learning_rate" (of
            the last step), and with fp16 "loss_scale" and "skipped_steps" (whose gradients overflowed); empty if no
            step was taken.
        """
        if not self._losses:
            return {}
        norms = torch.stack(self._grad_norms)
        finite = norms.isfinite()
        values = {
            "loss": float(torch.stack(self._losses).mean()),
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
        }
        if finite.any():
            values["grad_norm"] = float(norms[finite].mean())
        if self.scaler.is_enabled():
            values["loss_scale"] = float(self.scaler.get_scale())
            values["skipped_steps"] = float((~finite).sum())
        self._losses.clear()
        self._grad_norms.clear()
        return values

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a later step depends on, apart from the data order."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "n_done": self.n_done,
            "rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()` of another trainer of the same model and schedule."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.n_done = state["n_done"]
        torch.set_rng_state(state["rng"])
