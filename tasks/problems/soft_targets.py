"""What a teacher says of questions -> targets for a student's windows, by way of the characters of the text.

A teacher's start and end logits are taken piece by piece, each in the window that holds most of the piece's context,
as for ensembles (`averaging`). Under a temperature they become probabilities of the question's pieces, and so of the
characters that these begin and end with. Characters are all that a teacher and a student need have in common: a
student's piece gets what the teachers give to the characters that it covers, by the rule by which answers are found.

A student's window holds a part of the text. What teachers give to the rest goes to the null position, which is the
right answer, too, of a window that does not hold the annotated one. A window with a start and without its end holds
no answer: starts and ends in it weigh no more than the lesser of their sums. So teachers who are sure of an annotated
answer give the targets that it has itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.template import null_positions
from preprocess.types import FeatureSet, Outputs
from tasks.problems.averaging import PieceLogits
from tasks.problems.kinds import KindProblem
from tasks.problems.span import SpanProblem

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Opinion:
    """What one teacher says of Q questions, with N pieces in all and K kinds of answers that are no span.

    Args:
        splits: int64 [Q + 1]; question q has pieces splits[q] to splits[q + 1].
        spans: int32 [N, 2], half-open code-point spans of its pieces.
        logits: float32 [2, N], that an answer starts, and ends, with each.
        null: float32 [Q, 2], that there is no span, as a start and as an end; infinite where K is 0.
        kinds: float32 [Q, K], of each kind.
    """

    splits: NDArray[np.int64]
    spans: NDArray[np.int32]
    logits: NDArray[np.float32]
    null: NDArray[np.float32]
    kinds: NDArray[np.float32]


def kind_names(problem: SpanProblem | KindProblem) -> tuple[str, ...]:
    """Return the kinds of answers that are no span, in the order of their logits."""
    return tuple(problem.texts) if isinstance(problem, KindProblem) else ()


def opinion(
    problem: SpanProblem | KindProblem, n_questions: int, features: FeatureSet, outputs: Iterable[Outputs]
) -> Opinion:
    """Keep of a teacher's outputs what targets are made of.

    Args:
        problem: of the teacher, and of the student.
        n_questions: of them.
        features: the teacher's windows of them, in order.
        outputs: batches that hold every window once, in any order.

    Raises:
        DataError: logits are not finite, or a window is missing.
    """
    logits = PieceLogits(features, n_questions, len(kind_names(problem)))
    for batch in outputs:
        logits.take(batch)
    logits.check()
    spans, values = zip(*map(logits.pieces_of, range(n_questions)), strict=True)
    return Opinion(
        np.concatenate([[0], np.cumsum([len(own) for own in spans])]),
        np.concatenate(spans).astype(np.int32),
        np.concatenate(values, axis=1).astype(np.float32),
        logits.null.astype(np.float32),
        logits.kinds.astype(np.float32),
    )


@dataclass
class _Masses:
    """What teachers give to one question, as seen by a student.

    Args:
        pieces: [2, n], to start and to end with each of the student's pieces.
        null: [2], that there is no span, as a start and as an end.
        kinds: [K], to each kind where there is none; sums to 1.
    """

    pieces: Floats
    null: Floats
    kinds: Floats


def soft_targets(
    features: FeatureSet,
    question: NDArray[np.integer],
    teachers: Sequence[Opinion],
    temperature: float,
    kinds: Sequence[str],
) -> dict[str, NDArray[np.float32]]:
    """Return the mean of teachers' opinions as targets of a student's windows.

    Args:
        features: the student's windows, of T tokens, of E examples.
        question: int [E], the question among those of the opinions that each example is.
        teachers: at least one.
        temperature: by which logits are divided.
        kinds: of answers that are no span, in the order of their logits.

    Returns:
        the columns of `FeatureSet.soft`: "start" and "end", float32 [T], and where windows have targets of it "kind",
        float32 [W, K]: how likely each kind is, of a window without a span; 0 as far as it has one.
    """
    tokens = np.zeros((2, len(features.input_ids)), np.float32)
    of_kind = np.zeros((len(features), len(kinds)), np.float32)
    null_at = features.row_splits[:-1] + null_positions(features)
    bounds = np.searchsorted(features.example_index, np.arange(len(question) + 1))
    for example in np.flatnonzero(np.diff(bounds)).tolist():
        windows = range(*bounds[example : example + 2].tolist())
        begin, end = features.piece_splits[features.context_index[windows[0]] + np.arange(2)]
        masses = _masses(teachers, int(question[example]), features.piece_spans[begin:end], temperature)
        for window in windows:
            first = int(features.piece_start[window])
            held = masses.pieces[:, first : first + int(features.doc_length[window])]
            sums = held.sum(1)
            within = min(1.0, sums.min())
            at = features.row_splits[window] + features.doc_offset[window]
            if within > 0:
                tokens[:, at : at + held.shape[1]] = held * (within / sums)[:, None]
            tokens[:, null_at[window]] += 1 - within
            null = min(1 - within, masses.null.mean())
            of_kind[window] = null * masses.kinds
            # Of what this window alone does not hold, it can't be told what it is; as with annotated answers.
            if "unknown" in kinds:
                of_kind[window, list(kinds).index("unknown")] += 1 - within - null
    soft = {"start": tokens[0], "end": tokens[1]}
    return {**soft, "kind": of_kind} if "kind" in features.targets else soft


def _masses(teachers: Sequence[Opinion], question: int, spans: NDArray[np.int32], temperature: float) -> _Masses:
    """Take the mean of teachers' probabilities over the pieces of a student, given their spans [n, 2]."""
    pieces, null, kinds = np.zeros((2, len(spans))), np.zeros(2), np.zeros(teachers[0].kinds.shape[1])
    for teacher in teachers:
        first, last = teacher.splits[question : question + 2]
        logits = teacher.logits[:, first:last]
        if len(kinds):
            logits = np.append(logits, teacher.null[question][:, None], axis=1)
            kinds += _softmax(teacher.kinds[question][None], temperature)[0]
        if not logits.size:  # nothing of a text to say anything of
            null += 1
            continue
        probabilities = _softmax(logits, temperature)
        null += probabilities[:, last - first :].sum(1)
        chars = teacher.spans[first:last]
        if not len(spans):
            null += probabilities[:, : last - first].sum(1)
            continue
        starts = np.searchsorted(spans[:, 1], chars[:, 0], side="right")
        ends = np.searchsorted(spans[:, 0], chars[:, 1], side="left") - 1
        np.add.at(pieces[0], np.minimum(starts, len(spans) - 1), probabilities[0, : last - first])
        np.add.at(pieces[1], np.maximum(ends, 0), probabilities[1, : last - first])
    n = len(teachers)
    return _Masses(pieces / n, null / n, kinds / n)


def _softmax(logits: NDArray[np.floating], temperature: float) -> Floats:
    """Return the softmax of each row."""
    values = logits.astype(np.float64) / temperature
    exponential = np.exp(values - values.max(1, keepdims=True))
    result: Floats = exponential / exponential.sum(1, keepdims=True)
    return result
