"""DuReader-checklist: Chinese span extraction by what a question tests, with unanswerable questions (LIC2021).

Its files are published in one archive, dataset-bj.cdn.bcebos.com/lic2021/dureader_checklist.dataset.tar.gz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from preprocess.readers.mrc import note_contradictions, read_examples
from preprocess.readers.report import DataReport
from preprocess.types import Answer, Example
from tasks.core.prediction import Scorer
from tasks.dureader_robust import TASK as DUREADER_ROBUST
from tasks.metrics.dureader import NO_ANSWER, ChecklistScorer
from tasks.problems.kinds import KindProblem

_UNANSWERABLE = Answer(NO_ANSWER, kind="unknown")


def _impossible(example: Example) -> bool:
    return example.extra.get("is_impossible") == "true"


def _read(path: str | Path) -> tuple[list[Example], DataReport]:
    # Unanswerable questions come with an empty list, or with one answer "".
    examples, report = read_examples(path, special={"": _UNANSWERABLE.kind})
    note_contradictions(
        examples, report, impossible="trained and scored as unanswerable", possible="not trained on; can't be scored"
    )
    return examples, report


def _targets(example: Example) -> tuple[Answer, ...]:
    return (_UNANSWERABLE,) if _impossible(example) else DUREADER_ROBUST.targets(example)


def _scorer(examples: Sequence[Example]) -> Scorer:
    return ChecklistScorer(
        {example.id: [answer.text for answer in example.answers if answer.text] for example in examples},
        {example.id for example in examples if _impossible(example)},
        {example.id: example.extra.get("type", "") for example in examples},
    )


TASK = replace(
    DUREADER_ROBUST,
    name="dureader_checklist",
    version="1",
    title="DuReader-checklist",
    hub_dataset="",
    read=_read,
    targets=_targets,
    problem=KindProblem({_UNANSWERABLE.kind: NO_ANSWER}),
    scorer=_scorer,
)
