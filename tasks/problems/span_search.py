"""The search for spans in what a model says of starts and ends: the best pairs of each question, columnar.

The rules are those of `write_predictions` in google-research/bert `run_squad.py`: the best starts and ends of each
window, valid pairs ordered by the sum of their scores. A position is a valid start only in the window where its piece
has the most context, so that no span is proposed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.types import FeatureSet, Outputs
from tasks.core.prediction import DecodeOptions
from tasks.problems.window_values import check_each_once

# Pairs scored at once: small enough for the processor's cache.
_PAIRS_PER_CHUNK = 1 << 17
#: What padding scores: finite, so that one test finds a score that is not, and behind every real position.
LOWEST = np.finfo(np.float32).min


class Best(NamedTuple):
    """The best K starts of W windows, and the best J ends of each: of all starts together (I = 1), or of every one.

    Each list goes by score descending, then position. -1, which is no answer, stands behind those of a short window.

    Args:
        start: int32 [W, K], positions.
        start_logit: float32 [W, K], their scores.
        end: int32 [W, I, J], I = 1 or K.
        end_logit: float32 [W, I, J].
    """

    start: NDArray[np.int32]
    start_logit: NDArray[np.float32]
    end: NDArray[np.int32]
    end_logit: NDArray[np.float32]

    @classmethod
    def empty(cls, n: int, n_starts: int, n_lists: int, n_ends: int) -> Best:
        """Return what holds no position yet, of n windows."""
        shapes = (n, n_starts), (n, n_lists, n_ends)
        (start, start_logit), (end, end_logit) = (
            (np.full(shape, -1, np.int32), np.full(shape, LOWEST, np.float32)) for shape in shapes
        )
        return cls(start, start_logit, end, end_logit)


class Spans(NamedTuple):
    """Chosen spans of a whole data set, columnar; ordered by example, best first."""

    example: NDArray[np.int64]
    start_logit: NDArray[np.float32]
    end_logit: NDArray[np.float32]
    char_start: NDArray[np.int64]
    char_end: NDArray[np.int64]

    @property
    def score(self) -> NDArray[np.float64]:
        """Sum of both logits."""
        return self.start_logit.astype(np.float64) + self.end_logit

    def take(self, rows: NDArray[np.int64]) -> Spans:
        """Return some of the spans."""
        return Spans._make(column[rows] for column in self)


def best_positions(features: FeatureSet, outputs: Iterable[Outputs], size: int) -> Best:
    """Return the `size` best start and end positions of every window, all tokens of the window competing."""
    best = Best.empty(len(features), size, 1, size)
    for batch in each_once(features, outputs):
        window = np.asarray(batch.window)
        scores = np.stack((batch.values["start"], batch.values["end"])).astype(np.float32, copy=False)
        np.copyto(scores, LOWEST, where=np.arange(scores.shape[2]) >= features.lengths[window, None])
        refuse_infinite(scores, window)
        position, logit = top(scores.reshape(-1, scores.shape[2]), size)
        kept = position.shape[1]
        best.start[window, :kept], best.end[window, 0, :kept] = position.reshape(2, -1, kept)
        best.start_logit[window, :kept], best.end_logit[window, 0, :kept] = logit.reshape(2, -1, kept)
    for positions in (best.start, best.end[:, 0]):
        drop_empty_pieces(features, positions)
    return best


def each_once(features: FeatureSet, outputs: Iterable[Outputs]) -> Iterator[Outputs]:
    """Yield all batches.

    Raises:
        DataError: at the end, if a window was in none or in several.
    """
    windows = [np.zeros(0, np.int32)]
    for batch in outputs:
        windows.append(np.asarray(batch.window))
        yield batch
    check_each_once(windows, len(features))


def refuse_infinite(scores: NDArray[np.float32], window: NDArray[np.integer]) -> None:
    """Raise DataError if a score of [n, B, L] is not finite, naming its window of [B] and its position."""
    finite = np.isfinite(scores)
    if not finite.all():
        _, row, column = np.argwhere(~finite)[0].tolist()
        raise DataError(
            f"window {window[row]}: a logit of position {column} is not finite: the model has diverged or "
            "overflowed; lower the learning rate or use float32."
        )


def drop_empty_pieces(features: FeatureSet, position: NDArray[np.int32]) -> None:
    """Put -1 for the positions of pieces without a character, such as a lone "▁": no answer begins or ends there.

    Args:
        features: W windows.
        position: int32 [W, n], positions in them; changed in place.
    """
    empty = features.piece_spans[:, 0] == features.piece_spans[:, 1]
    if not empty.any():
        return
    place = position - features.doc_offset[:, None]
    in_context = (place >= 0) & (place < features.doc_length[:, None])
    first = features.piece_splits[features.context_index] + features.piece_start
    position[np.where(in_context, empty[np.where(in_context, first[:, None] + place, 0)], False)] = -1


def top(scores: NDArray[np.float32], size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return positions and values of the `size` largest scores of each row, by score descending, then position.

    The same as a stable sort of the whole row, at the price of a partial one.
    """
    n_rows, n_columns = scores.shape
    if size >= n_columns:
        position = np.argsort(-scores, axis=1, kind="stable")
        return position, np.take_along_axis(scores, position, axis=1)
    threshold = np.partition(scores, n_columns - size, axis=1)[:, n_columns - size, None]
    chosen = scores >= threshold
    if np.count_nonzero(chosen) > n_rows * size:
        # More positions reach the threshold than there is room for: of those equal to it, the first ones stay.
        above, equal = scores > threshold, scores == threshold
        room = size - above.sum(axis=1, keepdims=True)
        chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    # Flat indices: on two axes, nonzero and take_along_axis cost several times more.
    cell = np.flatnonzero(chosen)
    value = scores.ravel()[cell].reshape(n_rows, size)
    order = np.argsort(-value, axis=1, kind="stable") + np.arange(n_rows)[:, None] * size
    return cell[order] % n_columns, value.ravel()[order]


def first_of_example(scores: NDArray[np.float64], example: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return, per example in order, the index of its highest score, the first of equals."""
    ordered = np.lexsort((-scores, example))
    return ordered[np.diff(example[ordered], prepend=-1) != 0]


def _pair_scores(features: FeatureSet, best: Best, rows: slice, max_length: int) -> NDArray[np.float64]:
    """Return start + end score of every pair, float64 [rows, K * J] by start rank, then end rank; else -inf."""
    offset = features.doc_offset[rows, None]
    start, end = best.start[rows] - offset, best.end[rows] - offset[:, None]
    start_logit, end_logit = best.start_logit[rows].astype(np.float64), best.end_logit[rows].astype(np.float64)
    # A position that can't stand at its end of an answer gets -inf, and so does every pair with it.
    first, last = features.max_context[rows, :1], features.max_context[rows, 1:]
    start_logit[(start < first) | (start >= last)] = -np.inf
    end_logit[(end < 0) | (end >= features.doc_length[rows, None, None])] = -np.inf
    scores = start_logit[:, :, None] + end_logit
    # One unsigned comparison holds both bounds: an end before its start becomes a huge number.
    length = (end - start[:, :, None]).view(np.uint32)
    scores[length >= max_length] = -np.inf
    return scores.reshape(len(scores), -1)


def _chunks(features: FeatureSet, best: Best, max_length: int) -> Iterable[tuple[int, NDArray[np.float64]]]:
    """Yield (first window, pair scores of it and the following ones)."""
    step = max(1, _PAIRS_PER_CHUNK // (best.start.shape[1] * best.end.shape[2]))
    for first in range(0, len(features), step):
        yield first, _pair_scores(features, best, slice(first, first + step), max_length)


def all_pairs(features: FeatureSet, best: Best, options: DecodeOptions) -> Spans:
    """Return all valid pairs, those of an example by score descending, then window, start rank and end rank."""
    windows: list[NDArray[np.int64]] = []
    pairs: list[NDArray[np.int64]] = []
    scores: list[NDArray[np.float64]] = []
    for first, values in _chunks(features, best, options.max_answer_length):
        flat = values.ravel()
        cell = np.flatnonzero(flat > -np.inf)
        row, pair = np.divmod(cell, values.shape[1])
        windows.append(row + first)
        pairs.append(pair)
        scores.append(flat[cell])
    window, pair = np.concatenate(windows), np.concatenate(pairs)
    # numpy sorts 16-bit keys by radix, which most data sets' example indices fit into.
    index = features.example_index
    example = index[window].astype(np.min_scalar_type(int(index.max(initial=0))))
    order = np.lexsort((-np.concatenate(scores), example))
    return _spans(features, best, window[order], pair[order])


def best_pairs(features: FeatureSet, best: Best, options: DecodeOptions) -> Spans:
    """Return the first pair of every example in the order of `all_pairs`; examples without one are left out."""
    best_of_window: list[NDArray[np.int64]] = []
    scores: list[NDArray[np.float64]] = []
    for _, values in _chunks(features, best, options.max_answer_length):
        # argmax returns the first of equals, which is the one with the lower start rank, then the lower end rank.
        first = values.argmax(axis=1)
        best_of_window.append(first)
        scores.append(values[np.arange(len(values)), first])
    score = np.concatenate(scores)
    window = first_of_example(score, features.example_index)
    window = window[score[window] > -np.inf]
    return _spans(features, best, window, np.concatenate(best_of_window)[window])


def _spans(features: FeatureSet, best: Best, window: NDArray[np.int64], pair: NDArray[np.int64]) -> Spans:
    """Return the scores and characters of pairs, given as window and start rank * J + end rank."""
    start_rank, end_rank = np.divmod(pair, best.end.shape[2])
    of_start = window, start_rank
    of_end = window, np.minimum(start_rank, best.end.shape[1] - 1), end_rank
    example = features.example_index[window]
    context = features.context_index[window]
    first_piece = features.piece_splits[context] + features.piece_start[window] - features.doc_offset[window]
    return Spans(
        example.astype(np.int64),
        best.start_logit[of_start],
        best.end_logit[of_end],
        features.piece_spans[first_piece + best.start[of_start], 0].astype(np.int64),
        features.piece_spans[first_piece + best.end[of_end], 1].astype(np.int64),
    )
