"""Questions in words, and answers with their places, alternatives and confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from preprocess.types import FeatureSet
from tasks.core.confidence import Temperature, chosen_place, confidences, twins
from tasks.core.prediction import UNKNOWN, Candidate, DecodeOptions, Prediction
from tasks.problems.multispan import SEVERAL


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask.

    Args:
        question: the question; "" for tasks without one.
        context: the text that answers it, or several documents, one of which may.
        options: the answers to choose from, for tasks with such.
        id: comes back with the answer.
    """

    question: str
    context: str | Sequence[str]
    options: Sequence[str] = ()
    id: str = ""

    @property
    def documents(self) -> tuple[str, ...]:
        """The texts."""
        return (self.context,) if isinstance(self.context, str) else tuple(self.context)


@dataclass(frozen=True, slots=True)
class Alternative:
    """An entry of an n-best list.

    Args:
        text: a slice of its document, or what the task calls an answer of another kind; "" for no answer.
        char_start: first code point in its document; -1 where it has no place.
        char_end: one past the last code point; -1 likewise.
        document: index of its document; -1 where it has no place.
        confidence: its share of the probability, 0-1.
    """

    text: str
    char_start: int
    char_end: int
    document: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Window:
    """What a model has read at once: a part of a document.

    Args:
        document: index of the document.
        char_start: first code point.
        char_end: one past the last code point.
    """

    document: int
    char_start: int
    char_end: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a model says to a question.

    Args:
        id: of the question.
        answered: False where the text gives no answer, or none that is sure enough.
        text: the answer, as it stands in the document; of several spans all of them; "" where there is none.
        kind: "span", or what the task calls its other answers: "yes", "unknown", "option" …
        char_start: first code point in the document; -1 where the answer has no place.
        char_end: one past the last code point; -1 likewise.
        document: index of the document; -1 where the answer has no place.
        confidence: of the best alternative that the task's rules choose, 0-1, also where it was not sure enough; of
            an answer that is all that was found, such as entities, that of the least sure of them.
        n_best: the best alternatives, best first; or all that was found, in order.
        windows: what was read, in order.
        question_cut: whether the question was too long, and only its beginning was read.
        value: of tasks whose answers are more than a text: the texts of several spans, the answer with its evidence,
            the entities with their types and places, as JSON has it; None for others, and where there is no answer.
    """

    id: str
    answered: bool
    text: str
    kind: str
    char_start: int
    char_end: int
    document: int
    confidence: float
    n_best: tuple[Alternative, ...]
    windows: tuple[Window, ...]
    question_cut: bool = False
    value: Any = None


class Pooled(NamedTuple):
    """The answer of several documents as one, and the document of each candidate."""

    prediction: Prediction
    documents: tuple[int, ...]


def pooled(predictions: Sequence[Prediction], options: DecodeOptions) -> Pooled:
    """Rank the spans of several documents as if they were windows of one text.

    Spans compete by the sum of their logits. That no document has the answer is as likely as the document that is
    least sure of it says, as `KindProblem` takes it of windows.

    Args:
        predictions: of one question, one per document, in order.
        options: how answers were searched in each.
    """
    if len(predictions) == 1:
        (only,) = predictions
        return Pooled(only, (0,) * len(only.nbest))
    spans = [(n, c) for n, each in enumerate(predictions) for c in each.nbest if _is_span(each, c)]
    spans.sort(key=lambda entry: -_score(entry[1]))
    nulls = [(n, null) for n, each in enumerate(predictions) if (null := _null(each)) is not None]
    if not (spans or nulls):
        return Pooled(predictions[0], (0,) * len(predictions[0].nbest))
    entries, chosen = list(spans), next(iter(spans), None)
    if nulls:
        least_sure = min(nulls, key=lambda entry: _score(entry[1]))
        score = _score(least_sure[1])
        entries.insert(sum(_score(span) >= score for _, span in spans), least_sure)
        if chosen is None or score - _score(chosen[1]) > options.null_score_diff_threshold:
            chosen = least_sure
    assert chosen is not None
    kept = entries[: options.n_best_size]
    if chosen not in kept:
        kept.append(chosen)
    shares = _softmax([_score(candidate) for _, candidate in kept])
    nbest = tuple(c._replace(probability=share) for (_, c), share in zip(kept, shares, strict=True))
    source, best = predictions[chosen[0]], chosen[1]
    if _is_answer(source, best):
        answer = replace(source, id=predictions[0].id, nbest=nbest)
    else:  # its document alone would have said that there is none
        answer = Prediction(predictions[0].id, best.text, best.char_start, best.char_end, "span", _score(best), nbest)
    return Pooled(answer, tuple(document for document, _ in kept))


def result_of(
    question: Question,
    answer: Pooled,
    windows: Sequence[Window],
    *,
    question_cut: bool,
    n_best: int,
    min_confidence: float,
    temperature: Temperature,
    gathers: bool = False,
) -> Result:
    """Return what is said to a question.

    Args:
        question: the question.
        answer: to it.
        windows: that were read.
        question_cut: whether the question was too long.
        n_best: alternatives that are kept.
        min_confidence: below it there is no answer.
        temperature: of the confidence.
        gathers: whether the answer is all of its list, not the best of it.
    """
    prediction, documents = answer
    if gathers:
        place, shares = None, [candidate.probability for candidate in prediction.nbest]
        confidence = min(shares)
    else:
        place, shares = chosen_place(prediction), confidences(prediction.nbest, temperature)
        confidence = 0.0 if place is None else shares[place]
    entries = [
        Alternative(c.text, c.char_start, c.char_end, document if _located(c) else -1, share)
        for c, document, share, twin in zip(prediction.nbest, documents, shares, twins(prediction.nbest), strict=True)
        if share > 0 and not twin
    ]
    answered = bool(prediction.text) and prediction.kind != UNKNOWN and confidence >= min_confidence
    document = documents[place] if place is not None and prediction.char_start >= 0 else -1
    return Result(
        id=question.id,
        answered=answered,
        text=prediction.text if answered else "",
        kind=prediction.kind,
        char_start=prediction.char_start if answered else -1,
        char_end=prediction.char_end if answered else -1,
        document=document if answered else -1,
        confidence=confidence,
        n_best=tuple(entries[:n_best]),
        windows=tuple(windows),
        question_cut=question_cut,
        value=prediction.value if answered else None,
    )


def windows_read(features: FeatureSet, example: int, document: int) -> list[Window]:
    """Return which parts of its document the windows of an example hold."""
    windows = []
    for window in (features.example_index == example).nonzero()[0].tolist():
        first = int(features.piece_splits[features.context_index[window]] + features.piece_start[window])
        length = int(features.doc_length[window])
        spans = features.piece_spans[first : first + length]
        start, end = (int(spans[0, 0]), int(spans[-1, 1])) if length else (0, 0)
        windows.append(Window(document, start, end))
    return windows


def _located(candidate: Candidate) -> bool:
    return candidate.char_start >= 0


def _score(candidate: Candidate) -> float:
    return candidate.start_logit + candidate.end_logit


def _is_answer(prediction: Prediction, candidate: Candidate) -> bool:
    return candidate[:3] == (prediction.text, prediction.char_start, prediction.char_end)


def _is_span(prediction: Prediction, candidate: Candidate) -> bool:
    """Tell whether a candidate is a slice of its document, or several that are one answer."""
    return _located(candidate) or (prediction.kind == SEVERAL and _is_answer(prediction, candidate))


def _null(prediction: Prediction) -> Candidate | None:
    """Return the candidate that says that a document has no span; None for a problem without one."""
    if prediction.kind == "span" and not any(map(_located, prediction.nbest)):
        return None  # no span was found where there has to be one
    return next((candidate for candidate in prediction.nbest if not _is_span(prediction, candidate)), None)


def _softmax(scores: Sequence[float]) -> list[float]:
    exponential = np.exp(np.array(scores) - max(scores))
    return [float(share) for share in exponential / exponential.sum()]
