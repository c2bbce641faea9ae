"""ELECTRA's discriminator (Clark et al. 2020): a BERT that projects its embeddings and comes without a pooler."""

from __future__ import annotations

from pretrained_configs.families.base import Family

FAMILY = Family(published_pooler=False)
