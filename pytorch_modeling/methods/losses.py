"""What is added to the loss: label smoothing (Szegedy et al. 2016) and R-Drop's divergence (Liang et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from preprocess.types import NO_TARGET, HeadSpec, Output
from pytorch_modeling.hooks import TrainerHook
from pytorch_modeling.objective import best_of_options, competing

if TYPE_CHECKING:
    from pytorch_modeling.trainer import Trainer


class LabelSmoothing(TrainerHook):
    """Minimises (1 - e) CE + e U for positions, U being the mean of -log p over the tokens that compete.

    That is the cross-entropy with a target that gives the right token 1 - e, and e in equal parts to all of them.
    """

    def __init__(self, share: float) -> None:
        """Take e, in [0, 1)."""
        self.share = share

    def added_loss(
        self,
        trainer: Trainer,
        passes: Sequence[Mapping[str, Tensor]],
        batch: Mapping[str, Tensor],
        n_targets: Mapping[str, int],
    ) -> Tensor | None:
        """Return e (U - CE), the mean over the passes."""
        head = trainer.model.head_spec
        assert head is not None
        added = [smoothing(head, values, batch, n_targets) for values in passes]
        return self.share * torch.stack(added).mean()


class RDrop(TrainerHook):
    """Computes each window twice, and adds alpha times the symmetric divergence of what the two passes say."""

    n_passes = 2

    def __init__(self, alpha: float) -> None:
        """Take alpha."""
        self.alpha = alpha

    def added_loss(
        self,
        trainer: Trainer,
        passes: Sequence[Mapping[str, Tensor]],
        batch: Mapping[str, Tensor],
        n_targets: Mapping[str, int],
    ) -> Tensor | None:
        """Return alpha (KL(p || q) + KL(q || p)) / 2."""
        head = trainer.model.head_spec
        assert head is not None
        return self.alpha * divergence(head, passes[0], passes[1], batch, n_targets)


def smoothing(
    head: HeadSpec, values: Mapping[str, Tensor], batch: Mapping[str, Tensor], n_targets: Mapping[str, int]
) -> Tensor:
    """Return a batch's part of the mean of U - CE over positions, as `objective` takes means; 0 without positions."""
    total = torch.zeros((), dtype=torch.float32, device=batch["attention_mask"].device)
    for name, outputs in head.projections.items():
        for output in (output for output in outputs if output.loss == "position" and name in n_targets):
            target = batch[output.name]
            logs, counted = _position(output, values[output.name].float(), target, batch)
            right = logs.gather(1, torch.where(counted, target, 0)[:, None])[:, 0]
            mean = logs.sum(1) / competing(output, batch).sum(1).clamp(min=1)
            part = torch.where(counted, right - mean, 0.0).sum()
            total = total + output.weight * part / len(outputs) / n_targets[name]
    return total


def divergence(
    head: HeadSpec,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    n_targets: Mapping[str, int],
) -> Tensor:
    """Return a batch's part of the mean of (KL(p || q) + KL(q || p)) / 2 over what has a target.

    Args:
        head: the outputs and their losses, which say what is chosen among: tokens, classes, tags, options, pieces.
        first: values of one pass, by their outputs' names.
        second: of the other.
        batch: as for `objective`, and `n_targets` too; means are taken as there.
        n_targets: of each projection.

    Returns:
        float32 scalar.
    """
    total = torch.zeros((), dtype=torch.float32, device=batch["attention_mask"].device)
    for name, outputs in head.projections.items():
        for output in outputs if name in n_targets else ():
            target = batch[output.name]
            p, counted = _LOGS[output.loss](output, first[output.name].float(), target, batch)
            q, _ = _LOGS[output.loss](output, second[output.name].float(), target, batch)
            # (KL(p || q) + KL(q || p)) / 2, element by element; what is not chosen among has log 0 in both.
            parts = ((p.exp() - q.exp()) * (p - q) / 2).reshape(*counted.shape, -1).sum(-1)
            part = torch.where(counted, parts, 0.0).sum()
            total = total + output.weight * part / len(outputs) / n_targets[name]
    return total


def _position(output: Output, values: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return log p of [B, S] positions, 0 for what does not compete, and which windows have a target."""
    absent = ~competing(output, batch)
    # Not -inf: where nothing competes its gradient would not be finite.
    logs = values.masked_fill(absent, torch.finfo(values.dtype).min).log_softmax(-1)
    return logs.masked_fill(absent, 0.0), target != NO_TARGET


def _class(output: Output, values: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return log p of classes, tags or pieces, the last axis, and what has a target."""
    return values.log_softmax(-1), target != NO_TARGET


def _binary(output: Output, values: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return log p of yes and no, [B, 2], and which windows have a target."""
    return F.logsigmoid(torch.stack([values, -values], -1)), target != NO_TARGET


def _choice(output: Output, values: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return log p of options at their first windows, else 0, [B], and what is of an example with a right one."""
    absent = target == NO_TARGET
    best = best_of_options(values, target).masked_fill(absent, torch.finfo(values.dtype).min)
    same = batch["group"][:, None] == batch["group"][None]
    logs = best - best[None].masked_fill(~same, torch.finfo(values.dtype).min).logsumexp(1)
    return logs.masked_fill(absent, 0.0), (same & (target == 1)[None]).any(1)


_LOGS = {
    "position": _position,
    "class": _class,
    "binary": _binary,
    "tag": _class,
    "choice": _choice,
    "piece": _class,
}
