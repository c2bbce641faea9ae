"""XNLI: whether a Chinese sentence follows from another, contradicts it, or neither (Conneau et al., 2018).

The files are those made for ERNIE; the published training file spells one of the labels in another way.
"""

from __future__ import annotations

from preprocess.readers.rows import CONTEXT, LABEL, QUESTION, Columns, Labels
from tasks.core.recipe import PUBLISHED_RECIPE
from tasks.core.task import Source
from tasks.problems.class_task import class_task

_URL = "https://raw.githubusercontent.com/zhang45258/ERNIE01/e862b8ce223742826711e3a9caa79c92f879ffae/data/xnli/"
_LICENCE = "CC BY-NC 4.0"

TASK = class_task(
    name="xnli",
    version="2",
    title="XNLI-zh",
    columns=Columns((QUESTION, CONTEXT, LABEL)),
    labels=Labels(("contradiction", "entailment", "neutral"), {"contradictory": "contradiction"}),
    # Each premise stands there three times, with a hypothesis of every class.
    group=QUESTION,
    defaults={**PUBLISHED_RECIPE, "num_train_epochs": 3, "max_seq_length": 256, "max_query_length": 128},
    sources=(
        Source("train", "train.tsv", f"{_URL}train.tsv", _LICENCE),
        Source(
            split="dev",
            file_name="dev.tsv",
            url=f"{_URL}dev.tsv",
            licence=_LICENCE,
            sha256="de410cda40ac49f98228d7bf8d46cc8d628c6e1ba40d812a618511b5074cbbfc",
            n_bytes=377401,
        ),
        Source(
            split="test",
            file_name="test.tsv",
            url=f"{_URL}test.tsv",
            licence=_LICENCE,
            sha256="7e790296c1e5a989b4e98ab60e354293e322ab6b0b2cc3ccb9dd9c7286030e04",
            n_bytes=762919,
        ),
    ),
)
