"""LCQMC: whether two questions ask for the same (Liu et al., 2018). Its publisher gives the files out on request."""

from __future__ import annotations

from preprocess.readers.rows import CONTEXT, LABEL, QUESTION, Columns, Labels
from tasks.core.recipe import PUBLISHED_RECIPE
from tasks.problems.class_task import class_task

TASK = class_task(
    name="lcqmc",
    version="2",
    title="LCQMC",
    columns=Columns((QUESTION, CONTEXT, LABEL)),
    labels=Labels(("0", "1")),
    defaults={**PUBLISHED_RECIPE, "num_train_epochs": 3, "max_seq_length": 128},
)
