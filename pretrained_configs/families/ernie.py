"""ERNIE 2.0 and 3.0 (Sun et al. 2020, 2021): a BERT that also embeds which pre-training task it reads for."""

from __future__ import annotations

from pretrained_configs.families.base import Family

FAMILY = Family(
    has_task_type_table=True, own_fields=frozenset({"task_type_vocab_size"}), config_file="ernie_config.json"
)
