"""BERT (Devlin et al. 2019): also RoBERTa-wwm, MacBERT, LERT, PERT, RBT and ERNIE 1.0."""

from __future__ import annotations

from pretrained_configs.families.base import Family

FAMILY = Family()
