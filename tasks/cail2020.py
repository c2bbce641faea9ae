"""CAIL2020's reading comprehension: questions about judgments that take several steps, and sentences that say why.

https://github.com/china-ai-law-challenge/CAIL2020, folder ydlj. Its files are given to participants only; they have
HotpotQA's layout, with one document to a question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from preprocess.readers.hotpot import FACTS, hotpot_parts, is_fact, read_hotpot
from preprocess.readers.layouts import is_scalar
from preprocess.readers.report import DataReport
from preprocess.text.sentences import Sentence
from preprocess.types import Answer, Example
from tasks.core.prediction import Scorer
from tasks.core.task import PUBLISHED_RECIPE, Task
from tasks.metrics.hotpot import HotpotScorer
from tasks.problems.evidence import EvidenceProblem, Supported, sentences_of
from tasks.problems.kinds import KindProblem

#: Kind of answer -> how it is written, in the order of the model's kind logits.
KIND_TEXTS = {"unknown": "unknown", "yes": "yes", "no": "no"}
#: What a prediction says, and what the official files hold one after the other.
_PARTS = ("answer", "sp")
#: The baseline of the publisher takes an empty answer for "unknown", too.
_KIND_OF = {**{text: kind for kind, text in KIND_TEXTS.items()}, "": "unknown"}


def _read(path: str | Path) -> tuple[list[Example], DataReport]:
    return read_hotpot(path, special=_KIND_OF)


def _facts(example: Example) -> set[tuple[str, int]]:
    return {(title, number) for title, number in json.loads(example.extra[FACTS])}


def _targets(example: Example) -> tuple[Supported, ...]:
    usable: list[Answer] = [answer for answer in example.answers if answer.kind != "span" or answer.located]
    if not usable:
        return ()
    sentences = sentences_of(example)
    supporting = None
    if FACTS in example.extra:
        facts = _facts(example)
        supporting = tuple((one.title, one.number) in facts for one in sentences)
    return (Supported(usable[0], sentences, supporting),)


def _value(example: Example, text: str, evidence: Sequence[Sentence]) -> dict[str, Any]:
    return {"answer": text, "sp": [[one.title, one.number] for one in evidence]}


def _scorer(examples: Sequence[Example]) -> Scorer:
    facts = {example.id: _facts(example) for example in examples if FACTS in example.extra}
    return HotpotScorer({example.id: example.answers[0].text for example in examples}, facts)


def _official(examples: Sequence[Example], predictions: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    values = {id: one if isinstance(one, dict) else {"answer": str(one), "sp": []} for id, one in predictions.items()}
    return {name: {id: one[name] for id, one in values.items() if name in one} for name in _PARTS}


def _from_official(examples: Sequence[Example], values: Any) -> Any:
    if not (isinstance(values, dict) and values.keys() == set(_PARTS) and all(map(_is_object, values.values()))):
        return values
    ids = dict.fromkeys(id for part in values.values() for id in part)
    return {id: {name: part[id] for name, part in values.items() if id in part} for id in ids}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _takes(value: Any) -> bool:
    if not isinstance(value, dict) or not value or not value.keys() <= set(_PARTS):
        return False
    facts = value.get("sp", [])
    return is_scalar(value.get("answer", "")) and isinstance(facts, list) and all(map(is_fact, facts))


TASK = Task(
    name="cail2020",
    version="1",
    title="CAIL2020",
    read=_read,
    targets=_targets,
    problem=EvidenceProblem(
        KindProblem(KIND_TEXTS, objective=("joint_f1",)), value=_value, absent=KIND_TEXTS["unknown"]
    ),
    scorer=_scorer,
    selection=("joint_f1",),
    defaults=PUBLISHED_RECIPE,
    official=_official,
    from_official=_from_official,
    answer=attrgetter("value"),
    takes=_takes,
    parts=hotpot_parts,
)
