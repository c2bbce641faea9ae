"""Several models as one: probabilities of where an answer starts and ends, over the characters of the published text.

Each model's start logits become probabilities of the question's pieces, taken in the window that holds most of each
piece's context, and with them of the character that each piece begins with. An end has its probability in the window
of the start that it belongs to, as in decoding. Characters of the text are what models with other tokenizers, windows
and frameworks have in common, so there the probabilities are averaged. Where a question may have no answer, that is
one more place to start and end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.template import null_positions
from preprocess.types import Example, FeatureSet, Outputs
from tasks.core.prediction import Candidate, DecodeOptions, Prediction
from tasks.problems.kinds import KindProblem
from tasks.problems.span import SpanProblem, prediction

Floats = NDArray[np.float64]
#: Stands for a probability of 0, whose logarithm no file can hold.
_LEAST = 1e-300


class Ends(NamedTuple):
    """What one model says of a question's ends.

    Args:
        row: int64 [n_characters], the window that an answer which starts with this character is looked for in.
        values: float32 [n_windows, n_characters + 1], probability that it ends before this one.
    """

    row: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass
class Places:
    """Where one question's answer may be.

    Args:
        start: float64 [n_characters], probability that it starts with this one, summed over models.
        ends: of each model.
        reach: int64 [n_characters], the furthest end that a model may give to an answer that starts here; 0 for none.
        null: float64 [2], probability that there is no span, as a start and as an end.
        kinds: float64 [n_kinds], probability of each kind of answer that is no span.
    """

    start: Floats
    ends: list[Ends]
    reach: NDArray[np.int64]
    null: Floats
    kinds: Floats


class Average:
    """The average of models over some questions; models are added one after the other."""

    def __init__(self, problem: SpanProblem | KindProblem, examples: Sequence[Example]) -> None:
        """Begin with no model."""
        self._examples = examples
        self._texts = problem.texts if isinstance(problem, KindProblem) else {}
        self._n_models = 0
        self.places = [
            Places(
                np.zeros(len(example.context)),
                [],
                np.zeros(len(example.context), np.int64),
                np.zeros(2),
                np.zeros(len(self._texts)),
            )
            for example in examples
        ]

    def add(self, features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions) -> None:
        """Add a model.

        Args:
            features: its windows of the same examples, in the same order.
            outputs: batches that hold every window once, in any order.
            options: longest answer, in its pieces; and its threshold, which is 0 of what is averaged.

        Raises:
            DataError: logits are not finite, or a window is missing.
        """
        logits = PieceLogits(features, len(self._examples), len(self._texts))
        for batch in outputs:
            logits.take(batch)
        logits.check()
        for index, places in enumerate(self.places):
            self._add_question(places, logits, index, options)
        self._n_models += 1

    def _add_question(self, places: Places, logits: PieceLogits, index: int, options: DecodeOptions) -> None:
        spans, own = logits.pieces_of(index)
        null = logits.null[index] - options.null_score_diff_threshold / 2
        start, end = np.append(own, null[:, None], axis=1) if self._texts else own
        if len(start):
            probabilities = _softmax(start)
            np.add.at(places.start, spans[:, 0], probabilities[: len(spans)])
            places.null += (probabilities[-1], _softmax(end)[-1]) if self._texts else 0.0
        places.ends.append(logits.ends_of(index, len(places.start), np.logaddexp.reduce(end)))
        last = np.minimum(np.arange(len(spans)) + options.max_answer_length, len(spans)) - 1
        np.maximum.at(places.reach, spans[:, 0], spans[last, 1])
        if self._texts:
            places.kinds += _softmax(logits.kinds[index])

    def decode(self, n_best_size: int) -> dict[str, Prediction]:
        """Return the answers by question id, with their n-best lists; logits in them are logarithms of means."""
        assert self._n_models, "no model was added"
        return {
            example.id: self._decode_question(example, places, n_best_size)
            for example, places in zip(self._examples, self.places, strict=True)
        }

    def _decode_question(self, example: Example, places: Places, size: int) -> Prediction:
        spans = _best_spans(example.context, places, size, self._n_models)
        if not self._texts:
            return prediction(example.id, _with_probabilities(spans) or (Candidate("", -1, -1, 1.0, 0.0, 0.0),))
        kind = int(places.kinds.argmax())
        name, text = list(self._texts.items())[kind]
        null = Candidate(text, -1, -1, 0.0, *_logarithms(places.null, self._n_models))
        is_null = not spans or _score(null) > _score(spans[0])
        ahead = sum(_score(span) >= _score(null) for span in spans)
        entries = [*spans[:ahead], null, *spans[ahead:]]
        answer = null if is_null else spans[0]
        kept = entries[:size]
        # The answer, and how sure it is that there is none, can always be read.
        kept += [one for one in dict.fromkeys((answer, null)) if one not in kept]
        kept += [null._replace(text="")] if text else []
        nbest = _with_probabilities(kept)
        return prediction(example.id, nbest, nbest[kept.index(answer)], name if is_null else "span")


class PieceLogits:
    """What one model says of E questions, piece by piece.

    Args:
        features: its windows of them.
        n_examples: E.
        n_kinds: kinds of answers that are no span; 0 where every question has a span.
    """

    def __init__(self, features: FeatureSet, n_examples: int, n_kinds: int) -> None:
        """Begin without a window."""
        self._features = features
        n_windows = np.bincount(features.example_index, minlength=n_examples)
        self._context = np.zeros(n_examples, np.int64)
        self._context[features.example_index] = features.context_index
        n_pieces = np.where(n_windows > 0, np.diff(features.piece_splits)[self._context], 0)
        self._base = np.concatenate([[0], np.cumsum(n_pieces)])
        self._logits = np.zeros((2, self._base[-1]), np.float32)
        self._windows = np.searchsorted(features.example_index, np.arange(n_examples + 1))
        self._ends: dict[int, NDArray[np.float32]] = {}
        self._seen = np.zeros(len(features), np.int64)
        self._null_at = null_positions(features) if n_kinds else None
        self.null = np.full((n_examples, 2), np.inf)
        self.kinds = np.zeros((n_examples, n_kinds))

    def take(self, batch: Outputs) -> None:
        """Keep the logits of a batch."""
        features = self._features
        scores = np.stack((batch.values["start"], batch.values["end"]))
        for row, window in enumerate(batch.window.tolist()):
            example, offset = features.example_index[window], features.doc_offset[window]
            first, last = features.max_context[window]
            place = self._base[example] + features.piece_start[window] + first
            self._logits[:, place : place + last - first] = scores[:, row, offset + first : offset + last]
            self._ends[window] = scores[1, row, offset : offset + features.doc_length[window]].copy()
            self._seen[window] += 1
            if self._null_at is not None:
                null = scores[:, row, self._null_at[window]].astype(np.float64)
                # As in decoding: the window that is least sure that there is none decides, and names the kind.
                if null.sum() < self.null[example].sum():
                    self.null[example] = null
                    if "kind" in batch.values:
                        self.kinds[example] = batch.values["kind"][row]

    def check(self) -> None:
        """Raise DataError where logits are missing, or no numbers."""
        if not (self._seen == 1).all():
            raise DataError("every window must be predicted exactly once")
        arrays = (self._logits, self.kinds, *self._ends.values())
        if not all(np.isfinite(values).all() for values in arrays) or np.isnan(self.null).any():
            raise DataError("logits are not finite: the model has diverged or overflowed")

    def pieces_of(self, example: int) -> tuple[NDArray[np.int64], Floats]:
        """Return the spans of a question's pieces but empty ones, [n, 2], and their start and end logits, [2, n]."""
        first, last = self._base[example : example + 2]
        begin = self._features.piece_splits[self._context[example]]
        spans = self._features.piece_spans[begin : begin + last - first].astype(np.int64)
        kept = spans[:, 0] < spans[:, 1]
        return spans[kept], self._logits[:, first:last][:, kept].astype(np.float64)

    def ends_of(self, example: int, n_characters: int, total: float) -> Ends:
        """Return what is said of a question's ends, given the logarithm of the sum of their exponentials."""
        features = self._features
        first, last = self._windows[example : example + 2]
        begin = features.piece_splits[self._context[example]]
        row = np.zeros(n_characters, np.int64)
        values = np.zeros((last - first, n_characters + 1), np.float32)
        for n, window in enumerate(range(first, last)):
            piece = begin + features.piece_start[window]
            spans = features.piece_spans[piece : piece + features.doc_length[window]]
            held = spans[:, 0] < spans[:, 1]
            np.add.at(values[n], spans[held, 1], np.exp(self._ends[window][held] - total))
            # Windows come in the order of the text: each has the characters up to those of the next.
            if len(spans):
                row[spans[min(features.max_context[window, 0], len(spans) - 1), 0] :] = n
        return Ends(row, values)


def _best_spans(context: str, places: Places, size: int, n_models: int) -> list[Candidate]:
    """Return the best spans with distinct texts, best first, from the best starts and all their ends."""
    starts = np.argsort(-places.start, kind="stable")[:size]
    ends = np.zeros((len(starts), len(context) + 1))
    for one in places.ends:
        if len(one.values):
            ends += one.values[one.row[starts]]
    place = np.arange(ends.shape[1])
    possible = (starts[:, None] < place) & (place <= places.reach[starts, None])
    rank, last = np.nonzero(possible & (places.start[starts, None] > 0) & (ends > 0))
    first = starts[rank]
    logits = [_logarithms(values, n_models) for values in (places.start[first], ends[rank, last])]
    order = np.argsort(-(logits[0] + logits[1]), kind="stable")
    found: dict[str, Candidate] = {}
    for row in order.tolist():
        text = context[first[row] : last[row]]
        if text not in found:
            of_both = (float(values[row]) for values in logits)
            found[text] = Candidate(text, int(first[row]), int(last[row]), 0.0, *of_both)
        if len(found) == size:
            break
    return list(found.values())


def _logarithms(sums: Floats, n_models: int) -> Floats:
    """Return the logarithms of means of probabilities."""
    return np.log(np.maximum(sums / n_models, _LEAST))


def _score(candidate: Candidate) -> float:
    return candidate.start_logit + candidate.end_logit


def _with_probabilities(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Give each its share of all candidates' probability."""
    if not candidates:
        return ()
    shares = _softmax(np.array([_score(candidate) for candidate in candidates])).tolist()
    return tuple(one._replace(probability=share) for one, share in zip(candidates, shares, strict=True))


def _softmax(scores: Floats) -> Floats:
    exponential = np.exp(scores - scores.max())
    result: Floats = exponential / exponential.sum()
    return result
