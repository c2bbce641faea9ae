"""MSRA-NER: persons, places and organisations in news (SIGHAN 2006), in the files made for ERNIE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from preprocess.readers.rows import CONTEXT
from preprocess.readers.tagged import read_tagged, tagged_parts
from preprocess.types import Answer, Example
from tasks.core.entities import Entity
from tasks.core.task import PUBLISHED_RECIPE, Source, Task
from tasks.metrics.entities import EntityScorer, Gold
from tasks.problems.tagging import TagProblem

_TYPES = ("PER", "LOC", "ORG")
_URL = "https://raw.githubusercontent.com/zhang45258/ERNIE01/e862b8ce223742826711e3a9caa79c92f879ffae/data/msra_ner/"
_FILES = {
    "train": ("", 0),
    "dev": ("1bee6896d17126f83e17234bbe35b7321cead7a377b13f65abf6fe843ed6eb5d", 700150),
    "test": ("f4672f36c7f814fc1d46c6d02f01f82d7e40473b66864d7aec22e3ffd9999fbf", 1401165),
}


def _targets(example: Example) -> tuple[tuple[Answer, ...], ...]:
    # A text without entities is to be learned from, too.
    return (example.answers,) if example.labelled else ()


def _scorer(examples: Sequence[Example]) -> EntityScorer:
    return EntityScorer(
        {
            example.id: Gold(
                frozenset(Entity(answer.kind, answer.char_start, answer.char_end) for answer in example.answers),
                len(example.context),
            )
            for example in examples
        }
    )


def _report(examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, Any]:
    return _scorer(examples).report(predictions, _TYPES)


TASK = Task(
    name="msra_ner",
    version="2",
    title="MSRA-NER",
    read=partial(read_tagged, types=_TYPES),
    problem=TagProblem(_TYPES),
    targets=_targets,
    scorer=_scorer,
    selection=("f1",),
    report=_report,
    defaults={**PUBLISHED_RECIPE, "num_train_epochs": 5, "max_seq_length": 256},
    inputs=(CONTEXT,),
    parts=tagged_parts,
    pipeline="token-classification",
    sources=tuple(Source(split, f"{split}.tsv", f"{_URL}{split}.tsv", "", *known) for split, known in _FILES.items()),
)
