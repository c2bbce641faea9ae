"""THUCNews: the class of a news headline, in the selection of 649453932/Chinese-Text-Classification-Pytorch."""

from __future__ import annotations

from preprocess.readers.rows import CONTEXT, LABEL, Columns, Labels
from tasks.core.recipe import PUBLISHED_RECIPE
from tasks.core.task import Source
from tasks.problems.class_task import class_task

#: In the order of the numbers that stand for them in the files: the published class.txt.
NAMES = (
    "finance", "realty", "stocks", "education", "science", "society", "politics", "sports", "game", "entertainment",
)  # fmt: skip
_URL = (
    "https://raw.githubusercontent.com/649453932/Chinese-Text-Classification-Pytorch/"
    "6cb26819af7b646275aff8a4693676f2849e67f6/THUCNews/data/"
)
_FILES = {
    "train": ("", 0),
    "dev": ("6ed73aa2c57ee1560c8f76570d48735c4b1c29ae4983fe3523d56e115813e175", 551313),
    "test": ("ebecc8c896635ad69730083ca7b81d37c42c9a5779bc05c9d2479d894e34f026", 551596),
}

TASK = class_task(
    name="thucnews",
    version="2",
    title="THUCNews",
    columns=Columns((CONTEXT, LABEL)),
    labels=Labels(NAMES, {f"{number}": name for number, name in enumerate(NAMES)}),
    defaults={**PUBLISHED_RECIPE, "num_train_epochs": 3, "max_seq_length": 64},
    sources=tuple(
        Source(split, f"{split}.txt", f"{_URL}{split}.txt", "MIT", *known) for split, known in _FILES.items()
    ),
)
