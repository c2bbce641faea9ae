"""Fine-tuning; the protocol over seeds is `experiment.training`'s."""

from __future__ import annotations

from experiment.training.protocol import train

__all__ = ["train"]
