"""RoBERTa (Liu et al. 2019): BERT's layers."""

from __future__ import annotations

from tf_modeling.families.bert import BertEncoder

ENCODER = BertEncoder
