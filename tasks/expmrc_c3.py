"""ExpMRC on C3: the option, and the passage that says why (Cui et al., 2022), https://github.com/ymcui/expmrc.

The pseudo-evidence that ExpMRC publishes for C3's training questions has the same layout and trains both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from string import ascii_uppercase

from preprocess.readers.race import LETTER, race_parts, read_race
from preprocess.text.sentences import Sentence
from preprocess.types import Example
from tasks.c3 import TASK as C3
from tasks.core.prediction import Scorer
from tasks.core.task import Source
from tasks.expmrc_cmrc2018 import LICENCE, URL, evidence_text, evidences, supported, takes
from tasks.metrics.cmrc import require_answers
from tasks.metrics.expmrc import ExpmrcScorer
from tasks.problems.evidence import EvidenceProblem, Supported


def _targets(example: Example) -> tuple[Supported, ...]:
    return tuple(supported(example, answer) for answer in C3.targets(example))


def _value(example: Example, text: str, evidence: Sequence[Sentence]) -> dict[str, str]:
    letter = ascii_uppercase[example.options.index(text)]
    return {"answer": letter, "evidence": evidence_text(example, evidence)}


def _scorer(examples: Sequence[Example]) -> Scorer:
    # Answers are letters; whoever answers with a text alone means the option.
    right = {example.id: [example.extra[LETTER], example.answers[0].text] for example in examples if example.answers}
    require_answers({example.id: right.get(example.id, []) for example in examples})
    return ExpmrcScorer(
        {example.id: evidences(example) for example in examples}, lambda id, answer: float(answer in right[id])
    )


TASK = replace(
    C3,
    name="expmrc_c3",
    version="1",
    title="ExpMRC-C3",
    hub_dataset="hfl/expmrc",
    read=read_race,
    targets=_targets,
    problem=EvidenceProblem(C3.problem, value=_value),
    scorer=_scorer,
    selection=("overall",),
    answer=attrgetter("value"),
    takes=takes,
    parts=race_parts,
    sources=(
        Source(
            split="dev",
            file_name="expmrc-c3-dev.json",
            url=URL + "c3/expmrc-c3-dev.json",
            licence=LICENCE,
            sha256="b43356147cdd8228efdcd70f5953cf76b157d2c66724f2be308c7e5b965dfa8d",
            n_bytes=761853,
        ),
    ),
)
