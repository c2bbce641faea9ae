"""Span decoding: start and end logits of windows -> the best answers, as slices of the published context.

The rules are those of `write_predictions` in google-research/bert `run_squad.py`: the best pairs of starts and ends
(`span_search`), distinct texts, softmax over the kept list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import Answer, Example, FeatureSet, HeadSpec, Output, Outputs
from preprocess.windows import cut_windows
from tasks.core.prediction import Candidate, DecodeOptions, Prediction
from tasks.problems.span_search import Best, Spans, all_pairs, best_pairs, best_positions
from tasks.problems.span_targets import label_spans

_EMPTY = Candidate("", -1, -1, 1.0, 0.0, 0.0)


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
        best = best_positions(features, outputs, options.n_best_size)
        return span_texts(examples, best_pairs(features, best, options))

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
    best = best_positions(features, outputs, options.n_best_size)
    spans = rank_spans(examples, features, best, options)
    candidates = spans.candidates()
    return {
        example.id: prediction(example.id, tuple(candidates[first:last]) or (_EMPTY,))
        for example, (first, last) in zip(examples, pairwise(spans.splits), strict=True)
    }


def rank_spans(examples: Sequence[Example], features: FeatureSet, best: Best, options: DecodeOptions) -> Ranked:
    """Return the best spans of every question with distinct texts, at most `n_best_size`, as `decode_spans` does."""
    spans = all_pairs(features, best, options)
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


def prediction(
    question: str, nbest: tuple[Candidate, ...], chosen: Candidate | None = None, kind: str = "span"
) -> Prediction:
    """Return the prediction of a list of candidates; the first is the answer if no other was chosen."""
    best = nbest[0] if chosen is None else chosen
    score = best.start_logit + best.end_logit
    return Prediction(question, best.text, best.char_start, best.char_end, kind, score, nbest)


def _softmax(scores: NDArray[np.float64], splits: list[int]) -> NDArray[np.float64]:
    """Return the softmax of each row of a ragged array; rows may be empty."""
    lengths = np.diff(splits)
    filled = np.flatnonzero(lengths)
    if not len(filled):
        return scores
    starts, lengths = np.asarray(splits)[filled], lengths[filled]
    exponential = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), lengths))
    return exponential / np.repeat(np.add.reduceat(exponential, starts), lengths)
