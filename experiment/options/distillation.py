"""Options about learning from teachers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from experiment.options.fields import ABOVE_0, AT_LEAST_0, NameOrPath, Rule


@dataclass(frozen=True, kw_only=True)
class DistillationOptions:
    """Distillation (docs/distillation.md)."""

    teacher: tuple[NameOrPath, ...] = ()
    """Fine-tuned models to learn from: runs, whose best seed counts, or checkpoints; of several, the mean."""
    distill_weight: Annotated[float, Rule("between 0 and 1", lambda x: 0 <= x <= 1)] = 0.5
    """With --teacher: share of its loss in the whole; at 1 annotated answers count nothing."""
    distill_temperature: Annotated[float, ABOVE_0] = 2.0
    """With --teacher: what its logits, and the student's beside them, are divided by."""
    distill_hidden: Annotated[float, AT_LEAST_0] = 0.0
    """With one --teacher that has the student's tokenizer: weight of the distance of their hidden states; 0 for
    none."""
