"""Span decoding: start and end logits of windows -> the best answers, as slices of the published context.

The rules are those of `write_predictions` in google-research/bert `run_squad.py`: the best starts and ends of each
window, valid pairs ordered by the sum of their logits, distinct texts, softmax over the kept list. A position is a
valid start only in the window where its piece has the most context, so that no span is proposed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import Answer, Example, FeatureSet, HeadSpec, Output, Outputs
from preprocess.windows import cut_windows
from tasks.core.prediction import Candidate, DecodeOptions, Prediction
from tasks.problems.span_targets import label_spans
from tasks.problems.window_values import check_each_once

_EMPTY = Candidate("", -1, -1, 1.0, 0.0, 0.0)
# Pairs scored at once: small enough for the processor's cache.
_PAIRS_PER_CHUNK = 1 << 17
# What padding scores: finite, so that one test finds a logit that is not, and behind every real position.
_LOWEST = np.finfo(np.float32).min


class _Best(NamedTuple):
    """The best start (row 0) and end (row 1) positions of W windows by logit descending, then position.

    Args:
        position: int32 [2, W, n_best_size]; -1, which is no answer, behind those of a short window.
        logit: float32 [2, W, n_best_size].
    """

    position: NDArray[np.int32]
    logit: NDArray[np.float32]


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


class Ranked(NamedTuple):
    """The n-best lists of a whole data set, columnar: list i is entries splits[i] to splits[i + 1], or empty."""

    texts: list[str]
    spans: Spans
    splits: list[int]

    def firsts(self) -> Spans:
        """Return the first entry of every list that has one."""
        first = np.array(self.splits[:-1])[np.diff(self.splits) > 0]
        return self.spans.take(first)

    def candidates(self) -> list[Candidate]:
        """Return the entries with their probabilities, list after list."""
        spans = self.spans
        columns = (spans.char_start, spans.char_end, _softmax(spans.score, self.splits))
        logits = (spans.start_logit, spans.end_logit)
        entries = zip(self.texts, *(column.tolist() for column in (*columns, *logits)), strict=True)
        # Candidate(...) and Candidate._make cost several times more than the tuple itself.
        return list(map(partial(tuple.__new__, Candidate), entries))


#: Start and end of a span: one matrix of two rows in every published head.
START = Output("start", reads="token", size=1, loss="position", projection="span")
END = Output("end", reads="token", size=1, loss="position", projection="span")


@dataclass(frozen=True)
class SpanProblem:
    """The answer is a span of the context."""

    name = "span"
    head = HeadSpec((START, END))

    def encode(
        self,
        examples: Sequence[Example],
        targets: Sequence[Answer | None],
        tokenizer: Tokenizer,
        *,
        transform: TextTransform | None = None,
        **windows: Any,
    ) -> FeatureSet:
        """Cut examples into windows, each labelled with its part of one answer; see `Problem.encode`."""
        return encode_spans(self.head, (), examples, targets, tokenizer, transform=transform, **windows)

    def decode(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Prediction]:
        """Return the n-best answers of every question, see `decode_spans`."""
        return decode_spans(examples, features, outputs, options)

    def best_answers(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, str]:
        """Return the text of the best answer to every question: those of `decode`, without the lists."""
        return span_texts(examples, top_spans(features, outputs, options))

    def chance(self, features: FeatureSet) -> float:
        """Return the loss of a model that finds all positions of a window equally likely."""
        return position_chance(features)

    def answered(self, features: FeatureSet) -> NDArray[np.bool_]:
        """Return which windows hold a span to learn."""
        return holds_span(features)


def encode_spans(
    head: HeadSpec,
    kinds: tuple[str, ...],
    examples: Sequence[Example],
    targets: Sequence[Answer | None],
    tokenizer: Tokenizer,
    **windows: Any,
) -> FeatureSet:
    """Cut examples into windows and label them with those targets that the head has outputs for."""
    assert len(examples) == len(targets), "one target (or None) per example"
    texts = [example.question for example in examples], [example.context for example in examples]
    features = cut_windows(*texts, tokenizer, **windows)
    labels, counts = label_spans(features, targets, kinds)
    return features.with_targets(head, {output.name: labels[output.name] for output in head.outputs}, counts)


def holds_span(features: FeatureSet) -> NDArray[np.bool_]:
    """Return which windows are labelled with a span of their context, bool [W]; the others are with no answer."""
    start = features.targets[START.name]
    return (start >= features.doc_offset) & (start < features.doc_offset + features.doc_length)


def position_chance(features: FeatureSet) -> float:
    """Return the loss of a model that finds all positions of a window equally likely."""
    return float(np.log(features.lengths).mean())


def decode_spans(
    examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
) -> dict[str, Prediction]:
    """Return the n-best answers of every question.

    Args:
        examples: the examples that `features` was encoded from, in the same order.
        features: W windows.
        outputs: batches that hold every window once, in any order; column p is position p of the window, and columns
            behind its last token are not read.
        options: sizes of the search.

    Returns:
        question id to prediction, in the order of `examples`; where no span is valid, the text is "".

    Raises:
        DataError: logits are not finite, or a window has none or has them twice.
    """
    spans = rank_spans(examples, features, outputs, options)
    candidates = spans.candidates()
    return {
        example.id: prediction(example.id, tuple(candidates[first:last]) or (_EMPTY,))
        for example, (first, last) in zip(examples, pairwise(spans.splits), strict=True)
    }


def rank_spans(
    examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
) -> Ranked:
    """Return the best spans of every question with distinct texts, at most `n_best_size`, as `decode_spans` does."""
    spans = _all_pairs(features, _best_positions(features, outputs, options.n_best_size), options)
    bounds = np.searchsorted(spans.example, np.arange(len(examples) + 1)).tolist()
    kept: list[int] = []
    texts: list[str] = []
    splits = [0]
    for example, (first, last) in zip(examples, pairwise(bounds), strict=True):
        stop = min(first + options.n_best_size, last)
        own = _slices(example.context, spans, first, stop)
        rows: Iterable[int] = range(first, stop)
        if len(set(own)) < len(own):
            # A text is there twice: the list goes on further down.
            place_of: dict[str, int] = {}
            for row, text in enumerate(_slices(example.context, spans, first, last), first):
                place_of.setdefault(text, row)
            own, rows = list(place_of)[: options.n_best_size], list(place_of.values())[: options.n_best_size]
        kept.extend(rows)
        texts.extend(own)
        splits.append(len(kept))
    return Ranked(texts, spans.take(np.array(kept, dtype=np.int64)), splits)


def _slices(context: str, spans: Spans, first: int, last: int) -> list[str]:
    """Return the texts of some of the spans of one context."""
    starts, ends = spans.char_start[first:last].tolist(), spans.char_end[first:last].tolist()
    return [context[start:end] for start, end in zip(starts, ends, strict=True)]


def span_texts(examples: Sequence[Example], spans: Spans) -> dict[str, str]:
    """Return the text of every question's span, given at most one of each; "" where there is none."""
    texts = {example.id: "" for example in examples}
    rows = zip(spans.example.tolist(), spans.char_start.tolist(), spans.char_end.tolist(), strict=True)
    for index, char_start, char_end in rows:
        example = examples[index]
        texts[example.id] = example.context[char_start:char_end]
    return texts


def top_spans(features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions) -> Spans:
    """Return the best span of every question that has one."""
    return _best_pairs(features, _best_positions(features, outputs, options.n_best_size), options)


def prediction(
    question: str, nbest: tuple[Candidate, ...], chosen: Candidate | None = None, kind: str = "span"
) -> Prediction:
    """Return the prediction of a list of candidates; the first is the answer if no other was chosen."""
    best = nbest[0] if chosen is None else chosen
    score = best.start_logit + best.end_logit
    return Prediction(question, best.text, best.char_start, best.char_end, kind, score, nbest)


def first_of_example(scores: NDArray[np.float64], example: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return, per example in order, the index of its highest score, the first of equals."""
    ordered = np.lexsort((-scores, example))
    return ordered[np.diff(example[ordered], prepend=-1) != 0]


def _softmax(scores: NDArray[np.float64], splits: list[int]) -> NDArray[np.float64]:
    """Return the softmax of each row of a ragged array; rows may be empty."""
    lengths = np.diff(splits)
    filled = np.flatnonzero(lengths)
    if not len(filled):
        return scores
    starts, lengths = np.asarray(splits)[filled], lengths[filled]
    exponential = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), lengths))
    return exponential / np.repeat(np.add.reduceat(exponential, starts), lengths)


def _best_positions(features: FeatureSet, outputs: Iterable[Outputs], size: int) -> _Best:
    """Return the `size` best start and end positions of every window, all tokens of the window competing."""
    shape = (2, len(features), size)
    best = _Best(np.full(shape, -1, np.int32), np.full(shape, _LOWEST, np.float32))
    lengths = features.lengths
    windows = [np.zeros(0, np.int32)]
    for batch in outputs:
        window = np.asarray(batch.window)
        windows.append(window)
        scores = np.stack((batch.values["start"], batch.values["end"])).astype(np.float32, copy=False)
        np.copyto(scores, _LOWEST, where=np.arange(scores.shape[2]) >= lengths[window, None])
        finite = np.isfinite(scores)
        if not finite.all():
            _, row, column = np.argwhere(~finite)[0].tolist()
            raise DataError(
                f"window {window[row]}: a logit of position {column} is not finite: the model has diverged or "
                "overflowed; lower the learning rate or use float32."
            )
        position, logit = _top(scores.reshape(-1, scores.shape[2]), size)
        kept = position.shape[1]
        best.position[:, window, :kept] = position.reshape(2, -1, kept)
        best.logit[:, window, :kept] = logit.reshape(2, -1, kept)
    check_each_once(windows, len(features))
    _drop_empty_pieces(features, best.position)
    return best


def _drop_empty_pieces(features: FeatureSet, position: NDArray[np.int32]) -> None:
    """Put -1 for the positions of pieces without a character, such as a lone "▁": no answer begins or ends there."""
    empty = features.piece_spans[:, 0] == features.piece_spans[:, 1]
    if not empty.any():
        return
    place = position - features.doc_offset[:, None]
    in_context = (place >= 0) & (place < features.doc_length[:, None])
    first = features.piece_splits[features.context_index] + features.piece_start
    position[np.where(in_context, empty[np.where(in_context, first[:, None] + place, 0)], False)] = -1


def _top(scores: NDArray[np.float32], size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
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


def _pair_scores(features: FeatureSet, best: _Best, rows: slice, max_length: int) -> NDArray[np.float64]:
    """Return start + end logit of every pair, float64 [rows, size * size] by start rank, then end rank; else -inf."""
    offset = features.doc_offset[rows, None]
    start, end = best.position[:, rows] - offset
    start_logit, end_logit = best.logit[:, rows].astype(np.float64)
    # A position that can't stand at its end of an answer gets -inf, and so does every pair with it.
    first, last = features.max_context[rows, :1], features.max_context[rows, 1:]
    start_logit[(start < first) | (start >= last)] = -np.inf
    end_logit[(end < 0) | (end >= features.doc_length[rows, None])] = -np.inf
    scores = start_logit[:, :, None] + end_logit[:, None, :]
    # One unsigned comparison holds both bounds: an end before its start becomes a huge number.
    length = (end[:, None, :] - start[:, :, None]).view(np.uint32)
    scores[length >= max_length] = -np.inf
    return scores.reshape(len(scores), -1)


def _chunks(features: FeatureSet, best: _Best, max_length: int) -> Iterable[tuple[int, NDArray[np.float64]]]:
    """Yield (first window, pair scores of it and the following ones)."""
    step = max(1, _PAIRS_PER_CHUNK // best.position.shape[2] ** 2)
    for first in range(0, len(features), step):
        yield first, _pair_scores(features, best, slice(first, first + step), max_length)


def _all_pairs(features: FeatureSet, best: _Best, options: DecodeOptions) -> Spans:
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


def _best_pairs(features: FeatureSet, best: _Best, options: DecodeOptions) -> Spans:
    """Return the first pair of every example in the order of `_all_pairs`; examples without one are left out."""
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


def _spans(features: FeatureSet, best: _Best, window: NDArray[np.int64], pair: NDArray[np.int64]) -> Spans:
    """Return the logits and characters of pairs, given as window and start rank * size + end rank."""
    start_rank, end_rank = np.divmod(pair, best.position.shape[2])
    example = features.example_index[window]
    context = features.context_index[window]
    first_piece = features.piece_splits[context] + features.piece_start[window] - features.doc_offset[window]
    return Spans(
        example.astype(np.int64),
        best.logit[0, window, start_rank],
        best.logit[1, window, end_rank],
        features.piece_spans[first_piece + best.position[0, window, start_rank], 0].astype(np.int64),
        features.piece_spans[first_piece + best.position[1, window, end_rank], 1].astype(np.int64),
    )
