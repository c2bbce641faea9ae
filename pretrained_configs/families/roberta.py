"""RoBERTa (Liu et al. 2019): a BERT without segments, whose positions start after the row of the padding's id."""

from __future__ import annotations

from pretrained_configs.families.base import Family, InputTemplate

FAMILY = Family(
    template=InputTemplate(order=("cls", "question", "sep", "sep", "context", "sep"), segments=(0, 0, 0, 0, 0, 0)),
    padding_row=True,
    config_file="config.json",
)
