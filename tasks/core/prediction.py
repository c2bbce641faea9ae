"""What decoders and metrics return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from preprocess.types import Answer

#: Kind of the answer that there is none.
UNKNOWN = "unknown"


def name_of(answer: Answer) -> str:
    """Return what kind of answer it is, or which class: a table's name of it."""
    return answer.text if answer.kind == "class" else answer.kind


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How answers are searched in the logits.

    Args:
        n_best_size: start and end positions kept per window, and candidates kept per question; at least 1.
        max_answer_length: longest answer, in word pieces; at least 1.
        null_score_diff_threshold: tasks with unanswerable questions give the empty answer where its score minus that
            of the best span is above this.
    """

    n_best_size: int = 20
    max_answer_length: int = 50
    null_score_diff_threshold: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError where a size is below 1."""
        for name in ("n_best_size", "max_answer_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")


class Candidate(NamedTuple):
    """One entry of a question's n-best list; a tuple because a data set has tens of thousands of them.

    Args:
        text: the slice char_start to char_end of the published context, or an answer that is no part of it, such as a
            class; "" where no span is valid.
        char_start: first code point in `Example.context`; -1 for the empty candidate.
        char_end: one past the last code point; -1 likewise.
        probability: softmax of start_logit + end_logit over the question's n-best list, 0-1.
        start_logit: start score of the first piece, or the score of what is no span; 0 for the empty candidate.
        end_logit: end score of the last piece; 0 likewise, and where there is but one score.
    """

    text: str
    char_start: int
    char_end: int
    probability: float
    start_logit: float
    end_logit: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one question.

    Args:
        id: question id.
        text: the best candidate's text, or all that was found where that is several pieces; what the metric scores,
            unless the task's `answer` says otherwise.
        char_start: first code point in `Example.context`; -1 where the answer has no place.
        char_end: one past the last code point; -1 likewise.
        kind: "span", or the name of another kind of answer of the task.
        score: start_logit + end_logit of the best candidate.
        nbest: all candidates, best first, never empty.
        value: what there is beside a text, JSON-able: several spans, an answer with its evidence, entities with their
            places. The metric scores it where the task's `answer` says so.
    """

    id: str
    text: str
    char_start: int
    char_end: int
    kind: str
    score: float
    nbest: tuple[Candidate, ...]
    value: Any = None


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's result.

    Args:
        values: metric name to percent; those by which the task selects are its official metric.
        per_example: question id to metric name to 0-1, in the order of the gold file.
        n: number of questions, those without a prediction included.
        n_missing: questions without a prediction; they score 0.
    """

    values: Mapping[str, float]
    per_example: Mapping[str, Mapping[str, float]]
    n: int
    n_missing: int


#: A metric with its gold prepared: predictions (id to text) in, score out.
Scorer = Callable[[Mapping[str, Any]], Score]
