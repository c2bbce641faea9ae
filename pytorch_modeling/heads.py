"""The task head: span logits, answer-kind logits, and their losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preprocess.types import SPAN_KIND, HeadSpec


class Head(nn.Module):
    """Start and end logits per position; one logit per non-span answer kind if the task has such kinds."""

    def __init__(self, hidden_size: int, spec: HeadSpec) -> None:
        """Build the projections for `spec`."""
        super().__init__()
        self.span = nn.Linear(hidden_size, 2)
        self.kind = nn.Linear(hidden_size, len(spec.kinds)) if spec.kinds else None

    def forward(self, sequence_output: Tensor, pooled_output: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Score [B, S, H] and [B, H].

        Returns:
            start [B, S], end [B, S], and kind [B, K] or None.
        """
        # No views: the hooks of a sharded model would get lost with them.
        start, end = (logits.contiguous() for logits in self.span(sequence_output).unbind(-1))
        if self.kind is None:
            return start, end, None
        assert pooled_output is not None, "answer kinds are read from the pooled output"
        return start, end, self.kind(pooled_output)


def span_loss(start: Tensor, end: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Sum over windows of the mean of start and end cross-entropy.

    Padding takes no part in the softmax, so the loss does not depend on how far a batch is padded. (Google's BERT and
    transformers normalise over padding too; on an unpadded batch all three are the same.)

    Args:
        start: [B, S] logits.
        end: [B, S] logits.
        batch: "attention_mask" [B, S], "start_position" [B], "end_position" [B].

    Returns:
        float32 scalar; divide by the number of windows of the optimizer step.
    """
    padding = batch["attention_mask"] == 0
    total = torch.zeros((), dtype=torch.float32, device=start.device)
    for logits, target in ((start, batch["start_position"]), (end, batch["end_position"])):
        total = total + F.cross_entropy(logits.float().masked_fill(padding, -torch.inf), target, reduction="sum")
    return total / 2


def kind_loss(kind: Tensor, target: Tensor) -> Tensor:
    """Sum of the kind cross-entropy over windows whose target is no span.

    Args:
        kind: [B, K] logits.
        target: int64 [B], index of the kind or SPAN_KIND (ignored).

    Returns:
        float32 scalar; divide by the number of counted windows of the optimizer step.
    """
    return F.cross_entropy(kind.float(), target, ignore_index=SPAN_KIND, reduction="sum")
