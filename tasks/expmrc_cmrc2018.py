"""ExpMRC on CMRC2018: the answer, and the passage that says why (Cui et al., 2022), https://github.com/ymcui/expmrc.

The training file of CMRC2018 trains the answers alone; the pseudo-evidence that ExpMRC publishes for it trains both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from preprocess.readers.layouts import is_scalar
from preprocess.text.sentences import Sentence
from preprocess.types import Example
from tasks.cmrc2018 import TASK as CMRC2018
from tasks.core.prediction import Scorer
from tasks.core.task import Source
from tasks.metrics.cmrc import require_answers
from tasks.metrics.expmrc import ExpmrcScorer, bag_f1
from tasks.problems.evidence import EvidenceProblem, Supported, sentences_of

URL = "https://raw.githubusercontent.com/ymcui/expmrc/d41ad53abdba0792a7609da1553c9d24cb0b4063/data/"
LICENCE = "CC BY-SA 4.0"


def evidences(example: Example) -> list[str]:
    """Return the texts of all annotators' evidence."""
    texts: list[str] = json.loads(example.extra.get("evidences", "[]"))
    return texts


def supported(example: Example, answer: Any) -> Supported:
    """Return what an example is trained on: the answer and the first evidence that stands in the context."""
    sentences = sentences_of(example)
    places = ((example.context.find(text), len(text)) for text in evidences(example) if text)
    start, length = next((place for place in places if place[0] >= 0), (-1, 0))
    if start < 0:
        return Supported(answer, sentences, None)
    return Supported(answer, sentences, tuple(_is_evidence(one, start, start + length) for one in sentences))


def _is_evidence(sentence: Sentence, start: int, end: int) -> bool:
    """Whether a passage holds half of a sentence, or half of the passage is in it."""
    common = min(end, sentence.char_end) - max(start, sentence.char_start)
    return 2 * common >= min(sentence.char_end - sentence.char_start, end - start)


def evidence_text(example: Example, evidence: Sequence[Sentence]) -> str:
    """Return the sentences one after the other."""
    return "".join(example.context[one.char_start : one.char_end] for one in evidence).strip()


def takes(value: Any) -> bool:
    """Whether a value is an answer with its evidence."""
    return isinstance(value, dict) and value.keys() == {"answer", "evidence"} and all(map(is_scalar, value.values()))


def _targets(example: Example) -> tuple[Supported, ...]:
    return tuple(supported(example, answer) for answer in CMRC2018.targets(example))


def _value(example: Example, text: str, evidence: Sequence[Sentence]) -> dict[str, str]:
    return {"answer": text, "evidence": evidence_text(example, evidence)}


def _scorer(examples: Sequence[Example]) -> Scorer:
    answers = {example.id: [answer.text for answer in example.answers] for example in examples}
    require_answers(answers)
    return ExpmrcScorer(
        {example.id: evidences(example) for example in examples}, lambda id, text: bag_f1(answers[id], text)
    )


TASK = replace(
    CMRC2018,
    name="expmrc_cmrc2018",
    version="1",
    title="ExpMRC-CMRC2018",
    hub_dataset="hfl/expmrc",
    targets=_targets,
    problem=EvidenceProblem(CMRC2018.problem, value=_value),
    scorer=_scorer,
    selection=("overall",),
    answer=attrgetter("value"),
    takes=takes,
    sources=(
        *(source for source in CMRC2018.sources if source.split == "train"),
        Source(
            split="dev",
            file_name="expmrc-cmrc2018-dev.json",
            url=URL + "cmrc2018/expmrc-cmrc2018-dev.json",
            licence=LICENCE,
            sha256="189f494d86ca585990873fbb1fdc4626ec7ef3a86cfab38bc38fdedacdad896b",
            n_bytes=1125280,
        ),
    ),
)
