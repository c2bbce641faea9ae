"""ChnSentiCorp: whether a review of a hotel, a book or a computer is positive, in the files made for ERNIE."""

from __future__ import annotations

from preprocess.readers.rows import CONTEXT, LABEL, Columns, Labels
from tasks.core.recipe import PUBLISHED_RECIPE
from tasks.core.task import Source
from tasks.problems.class_task import class_task

_URL = (
    "https://raw.githubusercontent.com/zhang45258/ERNIE01/e862b8ce223742826711e3a9caa79c92f879ffae/data/chnsenticorp/"
)
_FILES = {
    "train": ("0b2653c23e5c79f539472e90cb10522f0ada4b80d3da95572d8b48fda47d5b33", 3019974),
    "dev": ("d129e443eac08ce7643013dad496a8edf282be39cac1a4f2ad080818b296b331", 374230),
    "test": ("34f9d71eba6096cd8689e18913d28cf9a5f3c18a6c2804cd13304a321738c4bc", 369742),
}

TASK = class_task(
    name="chnsenticorp",
    version="2",
    title="ChnSentiCorp",
    columns=Columns((LABEL, CONTEXT)),
    labels=Labels(("0", "1"), {"negative": "0", "positive": "1"}),
    # Batch, rate and length are those of most of the published results; so few texts need more passes.
    defaults={**PUBLISHED_RECIPE, "num_train_epochs": 3, "max_seq_length": 256},
    sources=tuple(Source(split, f"{split}.tsv", f"{_URL}{split}.tsv", "", *known) for split, known in _FILES.items()),
)
