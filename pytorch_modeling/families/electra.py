"""ELECTRA's discriminator (Clark et al. 2020): a BERT that projects its embeddings, as every encoder may."""

from __future__ import annotations

from pytorch_modeling.families.bert import BertEncoder

ENCODER = BertEncoder
