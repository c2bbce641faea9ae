"""SQuAD 2.0: SQuAD with unanswerable questions (Rajpurkar et al., 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from preprocess.readers.mrc import note_contradictions, read_examples
from preprocess.readers.report import DataReport
from preprocess.types import Answer, Example
from tasks.core.prediction import Prediction, Score, Scorer
from tasks.core.task import Source
from tasks.metrics.squad import SquadV2Scorer
from tasks.problems.conditioned import ConditionedProblem
from tasks.problems.kinds import KindProblem
from tasks.squad import TASK as SQUAD

_URL = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"
#: The odds of a question for which no span was found at all; JSON has no infinity.
_SURE = 1e4
_UNANSWERABLE = Answer("", kind="unknown")
# One kind of null answer: the score of [CLS] as a span decides, and the head needs no logits beside those of spans.
_PROBLEM = KindProblem({_UNANSWERABLE.kind: _UNANSWERABLE.text})


def _read(path: str | Path) -> tuple[list[Example], DataReport]:
    """Read a file, and note where `is_impossible` and the answers say different things."""
    examples, report = read_examples(path)
    note_contradictions(
        examples,
        report,
        impossible="trained as unanswerable, scored against the answers",
        possible="trained and scored as unanswerable",
    )
    return examples, report


def _targets(example: Example) -> tuple[Answer, ...]:
    # "plausible_answers" of unanswerable questions are no answers: the reader leaves them out.
    if not example.answers or example.extra.get("is_impossible", "") == "true":
        return (_UNANSWERABLE,)
    return SQUAD.targets(example)


def _scorer(examples: Sequence[Example]) -> Scorer:
    return SquadV2Scorer({example.id: [answer.text for answer in example.answers] for example in examples})


def _na_scorer(
    examples: Sequence[Example], predictions: Mapping[str, Any], odds: Mapping[str, float], threshold: float
) -> Score:
    gold = {example.id: [answer.text for answer in example.answers] for example in examples}
    return SquadV2Scorer(gold)(predictions, odds, threshold)


def _conditioned(n_starts: int, n_ends: int) -> ConditionedProblem:
    return ConditionedProblem(_PROBLEM.texts, n_starts=n_starts, n_ends=n_ends)


def null_odds(predictions: Mapping[str, Prediction]) -> dict[str, float]:
    """Return null score - best span score by question id, in logits: the `null_odds.json` of transformers.

    The higher, the surer is a question unanswerable, so these do for the `na_probs` of the metric; `_SURE` where the
    n-best list holds no span.
    """
    odds = {}
    for question, prediction in predictions.items():
        null = next(candidate for candidate in prediction.nbest if not candidate.text)
        spans = [c.start_logit + c.end_logit for c in prediction.nbest if c.text]
        odds[question] = null.start_logit + null.end_logit - max(spans) if spans else _SURE
    return odds


TASK = replace(
    SQUAD,
    name="squad_v2",
    version="1",
    title="SQuAD 2.0",
    hub_dataset="rajpurkar/squad_v2",
    read=_read,
    targets=_targets,
    problem=_PROBLEM,
    conditioned=_conditioned,
    scorer=_scorer,
    na_scorer=_na_scorer,
    null_odds=null_odds,
    sources=(
        Source(
            split="train",
            file_name="train-v2.0.json",
            url=_URL + "train-v2.0.json",
            licence="CC BY-SA 4.0",
            sha256="68dcfbb971bd3e96d5b46c7177b16c1a4e7d4bdef19fb204502738552dede002",
            n_bytes=42123633,
        ),
        Source(
            split="dev",
            file_name="dev-v2.0.json",
            url=_URL + "dev-v2.0.json",
            licence="CC BY-SA 4.0",
            sha256="80a5225e94905956a6446d296ca1093975c4d3b3260f1d6c8f68bc2ab77182d8",
            n_bytes=4370528,
        ),
    ),
)
