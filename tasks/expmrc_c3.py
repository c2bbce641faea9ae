"""ExpMRC on C3: the option, and the passage that says why (Cui et al., 2022), https://github.com/ymcui/expmrc.

Its questions are some of C3's dev and test, and its training data is C3's: these files are read, too, and train the
answers alone. The pseudo-evidence that ExpMRC publishes for them has the layout of dev and trains both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from string import ascii_uppercase

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import parse_json
from preprocess.readers.c3 import c3_examples, c3_parts, holds_c3
from preprocess.readers.documents import open_document
from preprocess.readers.parts import Parts
from preprocess.readers.race import LETTER, race_examples, race_parts
from preprocess.readers.report import DataReport
from preprocess.text.sentences import Sentence
from preprocess.types import Example
from tasks.c3 import TASK as C3
from tasks.core.prediction import Scorer
from tasks.core.task import Source
from tasks.expmrc_cmrc2018 import LICENCE, URL, evidence_text, evidences, supported, takes
from tasks.metrics.cmrc import require_answers
from tasks.metrics.expmrc import ExpmrcScorer
from tasks.problems.evidence import EvidenceProblem, Supported


def _read(path: str | Path) -> tuple[list[Example], DataReport]:
    document, report = open_document(path, "RACE")
    if not holds_c3(document):
        return race_examples(document, report)
    report.layout = "C3"
    return c3_examples(document, report)


def _parts(content: bytes, path: str | Path) -> Parts:
    document = parse_json(content, path, DataError, "give a JSON data file", lines=True)
    return (c3_parts if holds_c3(document) else race_parts)(content, path)


def _letter(example: Example, text: str) -> str:
    """Return the letter of an option, the first of equal ones; the option itself of one behind Z."""
    lettered = zip(example.options, ascii_uppercase, strict=False)
    return next((letter for option, letter in lettered if option == text), text)


def _targets(example: Example) -> tuple[Supported, ...]:
    return tuple(supported(example, answer) for answer in C3.targets(example))


def _value(example: Example, text: str, evidence: Sequence[Sentence]) -> dict[str, str]:
    return {"answer": _letter(example, text), "evidence": evidence_text(example, evidence)}


def _scorer(examples: Sequence[Example]) -> Scorer:
    # Answers are letters; whoever answers with a text alone means the option.
    answers = [(example, answer.text) for example in examples for answer in example.answers]
    right = {example.id: [_right_letter(example, text), text] for example, text in answers}
    require_answers({example.id: right.get(example.id, []) for example in examples})
    return ExpmrcScorer(
        {example.id: evidences(example) for example in examples}, lambda id, answer: float(answer in right[id])
    )


def _right_letter(example: Example, text: str) -> str:
    # Of two equal options, the published letter may be the second's.
    return example.extra.get(LETTER) or _letter(example, text)


TASK = replace(
    C3,
    name="expmrc_c3",
    version="2",
    title="ExpMRC-C3",
    hub_dataset="hfl/expmrc",
    read=_read,
    targets=_targets,
    problem=EvidenceProblem(C3.problem, value=_value),
    scorer=_scorer,
    selection=("overall",),
    answer=attrgetter("value"),
    takes=takes,
    parts=_parts,
    sources=(
        *(source for source in C3.sources if source.split == "train"),
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
