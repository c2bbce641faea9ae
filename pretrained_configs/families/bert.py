"""BERT (Devlin et al. 2019): also RoBERTa-wwm, MacBERT, LERT, PERT, RBT, ERNIE 1.0, and relative positions."""

from __future__ import annotations

from pretrained_configs.families.base import Family

FAMILY = Family(own_fields=frozenset({"position_embedding_type"}))
