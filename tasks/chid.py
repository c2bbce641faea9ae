"""CHID: which of ten idioms belongs in a blank of a text (Zheng et al., 2019), in the layout of CLUE.

https://github.com/CLUEbenchmark/CLUE
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from preprocess.readers.blanks import CHID, blank_parts, read_blanks
from preprocess.types import Example
from tasks.core.prediction import Scorer
from tasks.core.recipe import PUBLISHED_RECIPE
from tasks.core.task import Task, TaskOptions
from tasks.metrics.choice import AccuracyScorer
from tasks.problems.candidates import cloze_targets, configured, index_of, text_of
from tasks.problems.cloze import ClozeProblem


def _scorer(examples: Sequence[Example]) -> Scorer:
    return AccuracyScorer({example.id: example.answers[0].text for example in examples})


def _official(examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, int]:
    """Return the index of each blank's idiom."""
    return {blank.id: index_of(blank, predictions[blank.id]) for blank in examples if blank.id in predictions}


def _from_official(examples: Sequence[Example], predictions: Any) -> Any:
    if not isinstance(predictions, dict):
        return predictions
    blanks = {blank.id: blank for blank in examples}
    return {id: text_of(blanks[id], value) if id in blanks else value for id, value in predictions.items()}


def _configure(options: TaskOptions) -> Task:
    return configured(TASK, options)


TASK = Task(
    name="chid",
    version="2",
    title="CHID",
    read=partial(read_blanks, layout=CHID),
    problem=ClozeProblem(CHID.blank),
    targets=cloze_targets,
    scorer=_scorer,
    selection=("accuracy",),
    # As CLUE's baselines, 24 blanks of 10 idioms: what tells idioms apart stands near them.
    defaults={
        **PUBLISHED_RECIPE,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 240,
        "learning_rate": 2e-5,
        "warmup_ratio": 0.06,
        "max_seq_length": 64,
        "max_query_length": 16,
    },
    options=frozenset({"assignment"}),
    configure=_configure,
    official=_official,
    from_official=_from_official,
    parts=partial(blank_parts, layout=CHID),
    inputs=("question", "context", "options"),
    pipeline="multiple-choice",
)
