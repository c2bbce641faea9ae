"""XLM-RoBERTa (Conneau et al. 2020): BERT's layers."""

from __future__ import annotations

from pytorch_modeling.families.bert import BertEncoder

ENCODER = BertEncoder
