"""NLPCC-DBQA: which sentences of a document answer a question (Duan, 2016), each a row with the question.

A prediction is the probability that the sentence answers it: MRR ranks the sentences of a question by that.
"""

from __future__ import annotations

from collections.abc import Sequence

from preprocess.readers.rows import CONTEXT, LABEL, QUESTION, Columns, Labels
from preprocess.types import Example
from tasks.core.prediction import Scorer
from tasks.core.recipe import PUBLISHED_RECIPE
from tasks.core.task import Source
from tasks.metrics.classes import RankingScorer
from tasks.problems.class_task import class_of, class_task
from tasks.problems.classify import ClassProblem

_RIGHT = "1"
_LABELS = Labels(("0", _RIGHT))
_PROBLEM = ClassProblem(_LABELS.names, pair=True, sought=_RIGHT)
_URL = (
    "https://raw.githubusercontent.com/zhang45258/ERNIE01/e862b8ce223742826711e3a9caa79c92f879ffae/data/nlpcc-dbqa/"
)


def _scorer(examples: Sequence[Example]) -> Scorer:
    return RankingScorer(
        {example.id: class_of(example) == _RIGHT for example in examples},
        {example.id: example.group for example in examples},
    )


TASK = class_task(
    name="dbqa",
    version="2",
    title="NLPCC-DBQA",
    columns=Columns((QUESTION, CONTEXT, LABEL)),
    labels=_LABELS,
    group=QUESTION,
    problem=_PROBLEM,
    answer=_PROBLEM.answer,
    scorer=_scorer,
    # Nineteen of twenty sentences answer nothing: accuracy says little.
    selection=("mrr", "f1"),
    report=None,
    defaults={**PUBLISHED_RECIPE, "num_train_epochs": 3, "max_seq_length": 256},
    sources=tuple(Source(split, f"{split}.tsv", f"{_URL}{split}.tsv", "") for split in ("train", "dev", "test")),
)
