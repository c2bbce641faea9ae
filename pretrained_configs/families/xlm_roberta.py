"""XLM-RoBERTa (Conneau et al. 2020): RoBERTa in a hundred languages; also InfoXLM."""

from __future__ import annotations

from pretrained_configs.families import roberta

FAMILY = roberta.FAMILY
