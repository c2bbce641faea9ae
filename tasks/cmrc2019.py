"""CMRC2019: which of the sentences taken out of a text belongs in each of its blanks (Cui et al., 2020).

https://github.com/ymcui/cmrc2019
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from preprocess.readers.blanks import CMRC2019, blank_parts, read_blanks
from preprocess.types import Example
from tasks.core.prediction import Scorer
from tasks.core.recipe import PUBLISHED_RECIPE
from tasks.core.task import Source, Task, TaskOptions
from tasks.metrics.cmrc2019 import PassageScorer
from tasks.problems.candidates import by_passage, cloze_targets, configured, index_of, text_of
from tasks.problems.cloze import ClozeProblem


def _scorer(examples: Sequence[Example]) -> Scorer:
    gold = {
        passage: {blank.id: blank.answers[0].text for blank in blanks}
        for passage, blanks in by_passage(examples).items()
    }
    return PassageScorer(gold)


def _place(blank: Example) -> int:
    """Return where the answer to a blank stands in the list of its passage: [BLANK1] first."""
    match = re.fullmatch(CMRC2019.blank, blank.question)
    assert match is not None, "a blank's question is the blank as it is written"
    return int(match[1]) - 1


def _official(examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, list[int]]:
    """Return the indices of each passage's sentences, -1 where there is none."""
    found = {}
    for passage, blanks in by_passage(examples).items():
        found[passage] = [-1] * (1 + max(map(_place, blanks)))
        for blank in blanks:
            found[passage][_place(blank)] = index_of(blank, predictions.get(blank.id))
    return found


def _from_official(examples: Sequence[Example], predictions: Any) -> Any:
    if not isinstance(predictions, dict):
        return predictions
    passages, by_id = by_passage(examples), {blank.id: blank for blank in examples}
    answers: dict[str, Any] = {}
    for id, found in predictions.items():
        if id in by_id:
            answers[id] = text_of(by_id[id], found)
        elif id not in passages or not isinstance(found, list):
            answers[id] = "" if isinstance(found, list) else found
        else:
            # A shorter list has no predictions for the blanks at its end.
            of_passage = [blank for blank in passages[id] if _place(blank) < len(found)]
            answers |= {blank.id: text_of(blank, found[_place(blank)]) for blank in of_passage}
    return answers


def _configure(options: TaskOptions) -> Task:
    return configured(TASK, options)


_URL = "https://raw.githubusercontent.com/ymcui/cmrc2019/f3808ee33f74a59aaf78f8635e6d5177c49f7cc2/data/"
_FILES = {
    "train": ("", 0),
    "dev": ("a6a24faa3ebd85ff2c514bc489cbf78bc95f65bfcf479c72714502b8a0a61ced", 806701),
    "trial": ("849aacdee751afe766f2e610e58f5972a2575d4f91037ffa3db2cdc6c9b23d9f", 362428),
}


def _source(split: str) -> Source:
    name = f"cmrc2019_{split}.json"
    return Source(split, name, _URL + name, "CC BY-SA 4.0", *_FILES[split])


TASK = Task(
    name="cmrc2019",
    version="2",
    title="CMRC 2019",
    hub_dataset="hfl/cmrc2019",
    read=partial(read_blanks, layout=CMRC2019),
    problem=ClozeProblem(CMRC2019.blank),
    targets=cloze_targets,
    scorer=_scorer,
    selection=("qac", "pac"),
    # The recipe of the published baseline, but for the text: what a sentence continues stands near the blank, and a
    # window is read once for each of some 14 candidates. 16 blanks a step.
    defaults={
        **PUBLISHED_RECIPE,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 224,
        "learning_rate": 2e-5,
        "max_seq_length": 256,
    },
    options=frozenset({"assignment"}),
    configure=_configure,
    official=_official,
    from_official=_from_official,
    parts=partial(blank_parts, layout=CMRC2019),
    inputs=("question", "context", "options"),
    pipeline="multiple-choice",
    sources=tuple(map(_source, _FILES)),
)
