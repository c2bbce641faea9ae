"""ERNIE 2.0 and 3.0 (Sun et al. 2020, 2021): BERT's layers."""

from __future__ import annotations

from tf_modeling.families.bert import BertEncoder

ENCODER = BertEncoder
