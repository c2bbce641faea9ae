"""The recipe of the reference results, for tasks to start from. `--help` shows it, so nothing is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

#: Answers may be longer than transformers' default of 30: 5.1 % of CMRC2018's dev questions have only longer ones.
PUBLISHED_RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 32,
        "learning_rate": 3e-5,
        "warmup_ratio": 0.1,
        "weight_decay": 0.01,
        "max_seq_length": 512,
        "doc_stride": 128,
        "max_query_length": 64,
        "max_answer_length": 50,
        "n_best_size": 20,
    }
)
