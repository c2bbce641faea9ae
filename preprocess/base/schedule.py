"""The learning rate over a run: what both frameworks' trainers multiply its peak by."""

from __future__ import annotations


def linear_schedule(step: int, n_steps: int, n_warmup_steps: int) -> float:
    """Return the factor on the learning rate for optimizer step `step`, counted from 0.

    Rises linearly from 0 over the warm-up, then falls linearly to 0 at n_steps (the rule of
    transformers.get_linear_schedule_with_warmup; the first step of a warm-up has rate 0).
    """
    if step < n_warmup_steps:
        return step / n_warmup_steps
    return max(0.0, (n_steps - step) / max(1, n_steps - n_warmup_steps))
