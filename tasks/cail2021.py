"""CAIL2021's reading comprehension: questions about judgments whose answers may be several spans of the text.

https://github.com/china-ai-law-challenge/CAIL2021, folder ydlj. Its files are given to participants only. They are
CJRC's but for the answers: one annotator's may be a list of spans. The files of CJRC can be trained on as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from preprocess.joined import JoinedAnswer
from preprocess.readers.mrc import read_examples
from preprocess.readers.report import DataReport
from preprocess.types import Answer, Example
from tasks.cjrc import KIND_OF, KIND_TEXTS, UNKNOWN
from tasks.cjrc import TASK as CJRC
from tasks.core.prediction import Score, Scorer
from tasks.metrics.cjrc import LeaveOneOutScorer
from tasks.metrics.kinds import kind_report
from tasks.problems.multispan import SEVERAL, MultiSpanProblem


def _read(path: str | Path) -> tuple[list[Example], DataReport]:
    return read_examples(path, special=KIND_OF, several=True)


def _targets(example: Example) -> tuple[Answer, ...]:
    if not example.answers:
        return (UNKNOWN,)
    return tuple(filter(_is_complete, example.answers))[:1]


def _is_complete(answer: Answer) -> bool:
    """Whether all of an answer has a place, or needs none."""
    if isinstance(answer, JoinedAnswer):
        return all(part.located for part in answer.parts)
    return answer.located or answer.kind != "span"


def _joined(answer: Any) -> str:
    return "".join(answer) if isinstance(answer, list) else str(answer)


def _scorer(examples: Sequence[Example]) -> Scorer:
    scorer = LeaveOneOutScorer({example.id: [answer.text for answer in example.answers] for example in examples})
    return partial(_score, scorer)


def _score(scorer: Scorer, predictions: Mapping[str, Any]) -> Score:
    return scorer({id: _joined(answer) for id, answer in predictions.items()})


def _report(examples: Sequence[Example], predictions: Mapping[str, Any]) -> dict[str, Any]:
    gold = {example.id: example.answers[0].kind if example.answers else UNKNOWN.kind for example in examples}
    return kind_report(
        gold, {id: _kind(answer) for id, answer in predictions.items()}, ("span", SEVERAL, *KIND_TEXTS)
    )


def _kind(answer: Any) -> str:
    several = isinstance(answer, list) and len(answer) > 1
    return SEVERAL if several else KIND_OF.get(_joined(answer), "span")


def _official(examples: Sequence[Example], predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
    lists = {id: answer if isinstance(answer, list) else [str(answer)] for id, answer in predictions.items()}
    return [{"id": id, "answer": texts} for id, texts in lists.items()]


def _takes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


TASK = replace(
    CJRC,
    name="cail2021",
    version="1",
    title="CAIL2021",
    read=_read,
    targets=_targets,
    problem=MultiSpanProblem(KIND_TEXTS),
    scorer=_scorer,
    options=frozenset(),
    configure=None,
    report=_report,
    official=_official,
    answer=attrgetter("value"),
    takes=_takes,
    sources=(),
)
