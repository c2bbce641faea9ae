"""What training minimises: the losses of a head's outputs, each kind of loss once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from preprocess.types import NO_TARGET, HeadSpec, Loss, Output, soft_name


def objective(
    head: HeadSpec, values: Mapping[str, Tensor], batch: Mapping[str, Tensor], n_targets: Mapping[str, int]
) -> Tensor:
    """Return a batch's part of the mean loss of an optimizer step.

    The part of each projection is the mean of its outputs' losses over what has a target in the whole step.

    Args:
        head: the outputs and their losses.
        values: of each output, by name; see `Outputs`.
        batch: "attention_mask" and, for a head that asks for it, "answer_mask" [B, S], "group" [B], and the targets
            by their outputs' names; soft ones by their `soft_name`s, float32 [B, S] or [B, K].
        n_targets: what has a target in all batches of the step, of each projection that is learned from.

    Returns:
        float32 scalar.
    """
    total: Tensor | None = None
    for name, outputs in head.projections.items():
        if name not in n_targets:
            continue
        # A sum from 0: without a target the parameters have a gradient of 0, and not none, so that moments decay.
        loss = torch.zeros((), dtype=torch.float32, device=batch["attention_mask"].device)
        for output in outputs:
            part = _LOSSES[output.loss](output, values[output.name].float(), batch[output.name], batch)
            loss = loss + (part if output.weight == 1 else output.weight * part)
        loss = loss / len(outputs) / n_targets[name]
        if head.soft is not None and soft_name(name) in n_targets:
            weight, temperature = head.soft.weight, head.soft.temperature
            scores = {o.name: values[o.name].float() / temperature for o in outputs}
            soft = [o.weight * _soft(o, scores[o.name], batch[soft_name(o.name)], batch) for o in outputs]
            mean = torch.stack(soft).mean() / n_targets[soft_name(name)]
            loss = (1 - weight) * loss + weight * temperature**2 * mean
        total = loss if total is None else total + loss
    assert total is not None, "a batch without a target of any output"
    return total


def mean_objective(
    head: HeadSpec,
    passes: Sequence[Mapping[str, Tensor]],
    batch: Mapping[str, Tensor],
    n_targets: Mapping[str, int],
) -> Tensor:
    """Return the mean of the `objective`s of several passes over a batch."""
    first, *others = (objective(head, values, batch, n_targets) for values in passes)
    return torch.stack([first, *others]).mean() if others else first


def repeated(batch: Mapping[str, Tensor], n: int) -> Mapping[str, Tensor]:
    """Return a batch whose rows come n times, one whole batch after the other."""
    return batch if n == 1 else {name: torch.cat([column] * n) for name, column in batch.items()}


def divided(values: Mapping[str, Tensor], n: int) -> list[Mapping[str, Tensor]]:
    """Return the values of each of the n passes that a `repeated` batch stands for."""
    if n == 1:
        return [values]
    parts = {name: value.chunk(n) for name, value in values.items()}
    return [{name: chunks[i] for name, chunks in parts.items()} for i in range(n)]


def apart(
    head: HeadSpec,
    values: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    n_targets: tuple[Mapping[str, int], Mapping[str, int]],
) -> Tensor:
    """Return a batch's parts of the mean losses of the windows that hold an answer, and of the others.

    Args:
        head: as for `objective`, like the next two.
        values: of each output, by name.
        batch: with "answered" [B], 1 or 0.
        n_targets: what has a target in all batches of the step, of windows that hold an answer, and of the others.

    Returns:
        float32 [2], without a gradient.
    """
    with torch.no_grad():
        parts = []
        for answered, n in zip((1, 0), n_targets, strict=True):
            counted = batch["answered"] == answered
            targets = {o.name: _of_rows(counted, o.loss, batch[o.name]) for o in head.outputs if o.name in batch}
            parts.append(objective(head, values, {**batch, **targets}, n))
        return torch.stack(parts)


def competing(output: Output, batch: Mapping[str, Tensor]) -> Tensor:
    """Return which tokens a position's softmax goes over, bool [B, S]."""
    return batch["answer_mask" if output.among == "answers" else "attention_mask"] != 0


def best_of_options(values: Tensor, target: Tensor) -> Tensor:
    """Return the best score of an option's windows at its first one; its further ones take no part, and have -inf."""
    first = target != NO_TARGET
    pooled = torch.cumsum(first, 0) - 1
    best = torch.full_like(values, -torch.inf).scatter_reduce(0, pooled, values, "amax")
    return torch.where(first, best[pooled], -torch.inf)


def _of_rows(counted: Tensor, loss: Loss, target: Tensor) -> Tensor:
    """Return the targets [B] or [B, S] of some of the rows; the others have none."""
    # What is chosen among stays there, and nothing of it is right.
    none = target.clamp(max=0) if loss == "choice" else NO_TARGET
    return torch.where(counted if target.ndim == 1 else counted[:, None], target, none)


def _position(output: Output, values: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Sum the cross-entropy of [B, S] positions.

    Padding takes no part in the softmax, so the loss does not depend on how far a batch is padded. (Google's BERT and
    transformers normalise over padding too; on an unpadded batch all three are the same.)
    """
    values = values.masked_fill(~competing(output, batch), -torch.inf)
    return F.cross_entropy(values, target, ignore_index=NO_TARGET, reduction="sum")


def _soft(output: Output, values: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Sum the cross-entropy of soft targets, [B, S] of positions or [B, K] of classes."""
    if output.loss == "class":
        return -(target * values.log_softmax(1)).sum()
    absent = ~competing(output, batch)
    logs = values.masked_fill(absent, torch.finfo(values.dtype).min).log_softmax(1)
    return -(target * logs.masked_fill(absent, 0.0)).sum()


def _class(output: Output, values: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Sum the cross-entropy of [B, K] classes."""
    return F.cross_entropy(values, target, ignore_index=NO_TARGET, reduction="sum")


def _binary(output: Output, values: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Sum the cross-entropy of [B] logarithms of odds."""
    losses = F.binary_cross_entropy_with_logits(values, target.clamp(min=0).to(values.dtype), reduction="none")
    return (losses * (target != NO_TARGET)).sum()


def _tag(output: Output, values: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Sum the cross-entropy of [B, S, K] tags over the tokens that have a target."""
    return F.cross_entropy(values.flatten(0, 1), target.flatten(), ignore_index=NO_TARGET, reduction="sum")


def _piece(output: Output, values: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Sum the cross-entropy of the vocabulary's pieces, [B, P, V], over the places that have a target."""
    return _tag(output, values, target, batch)


def _choice(output: Output, values: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Sum, over the examples with a right option, the cross-entropy of their options, of [B] windows in all."""
    values = best_of_options(values, target)
    _, group = torch.unique_consecutive(batch["group"], return_inverse=True)
    largest = torch.full_like(values, -torch.inf).scatter_reduce(0, group, values, "amax").detach()
    exponential = torch.exp(values - largest[group])
    sums = torch.zeros_like(values).index_add(0, group, exponential)
    return torch.where(target == 1, torch.log(sums)[group] + largest[group] - values, 0.0).sum()


_LOSSES = {
    "position": _position,
    "class": _class,
    "binary": _binary,
    "tag": _tag,
    "choice": _choice,
    "piece": _piece,
}
