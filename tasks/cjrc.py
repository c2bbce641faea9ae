"""CJRC: reading comprehension of Chinese judgments (Duan et al., 2019), as published for CAIL2019.

An answer is a span of the text, YES, NO, or nothing at all ("unknown").
https://github.com/china-ai-law-challenge/CAIL2019
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from preprocess.base.errors import DataError
from preprocess.readers.mrc import read_examples
from preprocess.readers.report import DataReport, Problem
from preprocess.types import Answer, Example
from tasks.core.prediction import Scorer
from tasks.core.task import PUBLISHED_RECIPE, Source, Task, TaskOptions
from tasks.metrics.cjrc import DOMAINS, CjrcScorer
from tasks.metrics.kinds import kind_report
from tasks.problems.kinds import KindProblem

#: Kind of answer -> how it is written, in the order of the model's kind logits.
KIND_TEXTS = {"unknown": "", "yes": "YES", "no": "NO"}
_KIND_OF = {text: kind for kind, text in KIND_TEXTS.items()}
#: What an empty list of answers says in the training files; the others write three answers "".
_UNKNOWN = Answer("", kind="unknown")


def _read(path: str | Path) -> tuple[list[Example], DataReport]:
    # The kind comes from the answers: is_impossible is a string, and "true" for 176 dev questions with an answer.
    examples, report = read_examples(path, special=_KIND_OF)
    for example in examples:
        domain = example.extra.get("domain", DOMAINS[0])
        if domain not in DOMAINS:
            kind, remedy = "domain_unknown", "scored in all, and in neither domain"
            report.note(kind, example.id, Problem(example.id, kind, repr(domain), " or ".join(DOMAINS), remedy))
    return examples, report


def _first(answers: Sequence[Answer]) -> Sequence[Answer]:
    return answers[:1]


def _majority(answers: Sequence[Answer]) -> Sequence[Answer]:
    """Return the most frequent answer of the most frequent kind, the first of equals."""
    (kind, _), *_ = Counter(answer.kind for answer in answers).most_common(1)
    (answer, _), *_ = Counter(answer for answer in answers if answer.kind == kind).most_common(1)
    return (answer,)


def _all(answers: Sequence[Answer]) -> Sequence[Answer]:
    return tuple(dict.fromkeys(answers))


_POLICIES: dict[str, Callable[[Sequence[Answer]], Sequence[Answer]]] = {
    "first": _first,
    "majority": _majority,
    "all": _all,
}


def _targets(policy: str) -> Callable[[Example], tuple[Answer, ...]]:
    choose = _POLICIES[policy]

    def targets(example: Example) -> tuple[Answer, ...]:
        if not example.answers:
            return (_UNKNOWN,)
        usable = [answer for answer in example.answers if answer.kind != "span" or answer.located]
        return tuple(choose(usable)) if usable else ()

    return targets


def _configure(options: TaskOptions) -> Task:
    policy = options.answer_policy or "first"
    if policy not in _POLICIES:
        raise DataError(f"--answer_policy {policy!r}: expected one of {', '.join(_POLICIES)}.")
    return TASK if policy == "first" else replace(TASK, version=f"1+{policy}", targets=_targets(policy))


def _scorer(examples: Sequence[Example]) -> Scorer:
    return CjrcScorer(
        {example.id: [answer.text for answer in example.answers] for example in examples},
        {example.id: example.extra.get("domain", "") for example in examples},
    )


def _report(examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, Any]:
    gold = {example.id: example.answers[0].kind if example.answers else "unknown" for example in examples}
    predicted = {id: _KIND_OF.get(str(text), "span") for id, text in predictions.items()}
    return kind_report(gold, predicted, ("span", *KIND_TEXTS))


def _official(examples: Sequence[Example], predictions: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"id": id, "answer": text} for id, text in predictions.items()]


_URL = (
    "https://raw.githubusercontent.com/china-ai-law-challenge/CAIL2019/master/"
    "%E9%98%85%E8%AF%BB%E7%90%86%E8%A7%A3/data/"
)

TASK = Task(
    name="cjrc",
    version="1",
    title="CJRC",
    read=_read,
    targets=_targets("first"),
    problem=KindProblem(KIND_TEXTS, objective=("f1",)),
    scorer=_scorer,
    selection=("f1", "em"),
    defaults=PUBLISHED_RECIPE,
    options=frozenset({"answer_policy"}),
    configure=_configure,
    report=_report,
    official=_official,
    sources=(
        Source("train", "big_train_data.json", f"{_URL}big_train_data.json", ""),
        Source("trial", "small_train_data.json", f"{_URL}small_train_data.json", ""),
        Source(
            "dev",
            "dev_ground_truth.json",
            f"{_URL}dev_ground_truth.json",
            "",
            sha256="5b93979df9085fcf1b3f72481aa19e6625c4b2da175925d4c9a90f6494c4ef8b",
            n_bytes=3555905,
        ),
        Source(
            "test",
            "test_ground_truth.json",
            f"{_URL}test_ground_truth.json",
            "",
            sha256="3d5d67b5b03ad15d3224da18834e2eb95399cfa98a8d5fd48f91621cf7928dca",
        ),
    ),
)
