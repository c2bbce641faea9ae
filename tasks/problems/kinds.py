"""Decoding of tasks whose answers need be no span: the null score of the windows against the best span.

The rules are those of `write_predictions` with `version_2_with_negative` in ewrfcas/bert_cn_finetune
`evaluate/CJRC_output.py`, which are google-research/bert's with more than one kind of null answer. The null score of
a question is the smallest start + end logit of the null position ([CLS]) among its windows; that window's kind logits
name the kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.template import null_positions
from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import NO_TARGET, Answer, Example, FeatureSet, HeadSpec, Output, Outputs
from tasks.core.prediction import UNKNOWN, DecodeOptions, Prediction, Scorer
from tasks.core.problem import Problem
from tasks.problems.span import (
    END,
    START,
    Ranked,
    encode_spans,
    holds_span,
    position_chance,
    prediction,
    rank_spans,
    span_texts,
)
from tasks.problems.span_search import Best, Spans, best_pairs, best_positions, first_of_example

# Sums of scores (0-1 per question) that differ by less are equal but for rounding.
_ROUNDING = 1e-9


class Nulls(NamedTuple):
    """The null answers of E questions.

    Args:
        start_logit: float32 [E].
        end_logit: float32 [E].
        kind: int64 [E], index of the kind.
        difference: float64 [E], how much surer than of the best span a model is of them; inf without a span.
    """

    start_logit: NDArray[np.float32]
    end_logit: NDArray[np.float32]
    kind: NDArray[np.int64]
    difference: NDArray[np.float64]

    @property
    def score(self) -> NDArray[np.float64]:
        """Sum of both logits."""
        return self.start_logit.astype(np.float64) + self.end_logit


class Watcher(Protocol):
    """Keeps what the null answers need of outputs that pass by on their way to the span search."""

    def watch(self, outputs: Iterable[Outputs]) -> Iterator[Outputs]:
        """Yield the batches unchanged."""

    def nulls(self, best: Spans) -> Nulls:
        """Return the null answers, once all batches have passed, given the best spans of questions that have one."""


class _NullLogits:
    """A `Watcher` of the null position: the window where it scores least has a question's null answer."""

    def __init__(self, features: FeatureSet, n_kinds: int) -> None:
        self._features = features
        self._position = null_positions(features)
        self._logits = np.zeros((2, len(features)), np.float32)
        self._kind = np.zeros((len(features), n_kinds), np.float32)

    def watch(self, outputs: Iterable[Outputs]) -> Iterator[Outputs]:
        """Yield the batches unchanged."""
        for batch in outputs:
            window = np.asarray(batch.window)
            at = np.arange(len(window)), self._position[window]
            self._logits[:, window] = batch.values["start"][at], batch.values["end"][at]
            if self._kind.shape[1] > 1:
                kind = batch.values["kind"]
                if not np.isfinite(kind).all():
                    where = f"window {window[0]} and those in its batch"
                    raise DataError(f"{where}: the kind logits are not finite: the model has diverged.")
                self._kind[window] = kind
            yield batch

    def nulls(self, best: Spans) -> Nulls:
        """Choose each question's window, see `Watcher`."""
        start, end = self._logits
        score = start.astype(np.float64) + end
        window = first_of_example(-score, self._features.example_index)
        difference = np.full(len(window), np.inf)
        difference[best.example] = score[window][best.example] - best.score
        return Nulls(start[window], end[window], self._kind[window].argmax(axis=1), difference)


class Alternatives(NamedTuple):
    """The two answers to every question, one of which is given.

    Args:
        span: question id to the text of its best span; "" where there is none.
        null: question id to the text of its null answer.
        difference: float64 [E], null score minus span score; inf where there is no span.
    """

    span: Mapping[str, Any]
    null: Mapping[str, Any]
    difference: NDArray[np.float64]

    def best(self, options: DecodeOptions) -> dict[str, Any]:
        """Return the answer that is given to each question."""
        is_null = self.difference > options.null_score_diff_threshold
        rows = zip(self.span.items(), self.null.values(), is_null.tolist(), strict=True)
        return {id: null if chosen else span for (id, span), null, chosen in rows}


@dataclass(frozen=True)
class KindProblem:
    """The answer is a span of the context, or of another kind: yes, no, that there is none.

    Args:
        texts: kind to the text that it is answered with, in the order of the model's kind logits; with a single kind
            no kind logits are needed.
        objective: metric names; `tune` maximises their sum, which must be a mean over `Score.per_example`.
    """

    texts: Mapping[str, str]
    objective: tuple[str, ...] = ("f1",)

    @property
    def name(self) -> str:
        """The problem, and the kinds that windows are labelled with."""
        return f"kinds {' '.join(self._labelled)}"

    @property
    def head(self) -> HeadSpec:
        """Start and end, and the kind where there are several to tell apart."""
        if not self._labelled:
            return HeadSpec((START, END))
        return HeadSpec((START, END, Output("kind", reads="sequence", size=len(self.texts), loss="class")))

    @property
    def _labelled(self) -> tuple[str, ...]:
        return tuple(self.texts) if len(self.texts) > 1 else ()

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
        return encode_spans(self.head, self._labelled, examples, targets, tokenizer, transform=transform, **windows)

    def chance(self, features: FeatureSet) -> float:
        """Return the loss of a model that finds all positions of a window, and all kinds, equally likely."""
        return position_chance(features) + math.log(len(self.texts))

    def answered(self, features: FeatureSet) -> NDArray[np.bool_]:
        """Return which windows hold a span, or are of a kind that says more than that there is none."""
        held = holds_span(features)
        if not self._labelled:
            return held
        kind = features.targets["kind"]
        absent = self._labelled.index(UNKNOWN) if UNKNOWN in self._labelled else NO_TARGET
        return held | ((kind != NO_TARGET) & (kind != absent))

    def decode(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Prediction]:
        """Return the n-best answers of every question.

        The list holds the `n_best_size` best of distinct spans and the null answer (behind spans of equal score),
        then "" if it is not among them, with the null logits, so that its probability can always be read. The answer
        is the null answer where its score minus that of the best span is above `options.null_score_diff_threshold`,
        or where there is no span; else the best span.

        Arguments and errors are those of `decode_spans`; kind logits must be there and finite, too.
        """
        watcher = self._watcher(features)
        spans = rank_spans(examples, features, self._search(features, watcher.watch(outputs), options), options)
        nulls = watcher.nulls(spans.firsts())
        is_null = nulls.difference > options.null_score_diff_threshold
        lists, chosen = _insert(spans, nulls, self._null_texts(nulls), is_null, options.n_best_size)
        candidates, names = lists.candidates(), tuple(self.texts)
        kinds = [names[kind] if null else "span" for kind, null in zip(nulls.kind, is_null, strict=True)]
        questions = zip(examples, pairwise(lists.splits), chosen, kinds, strict=True)
        return {
            example.id: prediction(example.id, tuple(candidates[first:last]), candidates[answer], kind)
            for example, (first, last), answer, kind in questions
        }

    def best_answers(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, str]:
        """Return the text of the answer to every question: those of `decode`, without the lists."""
        return self.alternatives(examples, features, outputs, options).best(options)

    def tune(
        self,
        examples: Sequence[Example],
        features: FeatureSet,
        outputs: Iterable[Outputs],
        options: DecodeOptions,
        scorer: Scorer,
    ) -> DecodeOptions:
        """Return the options with the threshold that scores best, exactly: every way to split the questions is tried.

        Among the thresholds that score best, it is 0 if that is one; else the middle of the interval between two
        questions' differences that is nearest to 0 (one beside the first or last difference in an open interval).
        """
        return self.tuned(self.alternatives(examples, features, outputs, options), options, scorer)

    def tuned(self, alternatives: Alternatives, options: DecodeOptions, scorer: Scorer) -> DecodeOptions:
        """Return the options that `tune` does, of answers in the form that the metric reads."""
        span, null = (self._objective(scorer, answers) for answers in (alternatives.span, alternatives.null))
        return replace(options, null_score_diff_threshold=best_threshold(alternatives.difference, span, null))

    def _watcher(self, features: FeatureSet) -> Watcher:
        return _NullLogits(features, len(self.texts))

    def _search(self, features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions) -> Best:
        return best_positions(features, outputs, options.n_best_size)

    def _objective(self, scorer: Scorer, answers: Mapping[str, Any]) -> NDArray[np.float64]:
        per_example = scorer(answers).per_example
        return np.array([sum(per_example[id][name] for name in self.objective) for id in answers])

    def _null_texts(self, nulls: Nulls) -> list[str]:
        texts = tuple(self.texts.values())
        return [texts[kind] for kind in nulls.kind.tolist()]

    def alternatives(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> Alternatives:
        """Return both answers to every question, before it is decided; arguments are those of `decode`."""
        watcher = self._watcher(features)
        spans = best_pairs(features, self._search(features, watcher.watch(outputs), options), options)
        nulls = watcher.nulls(spans)
        texts = span_texts(examples, spans)
        null = dict(zip(texts, self._null_texts(nulls), strict=True))
        return Alternatives(texts, null, nulls.difference)


def kinds_of(problem: Problem) -> dict[str, str]:
    """Return text -> kind of a problem's answers that are no spans; none where all are spans."""
    return {text: kind for kind, text in problem.texts.items()} if isinstance(problem, KindProblem) else {}


def _insert(
    spans: Ranked, nulls: Nulls, null_texts: Sequence[str], is_null: NDArray[np.bool_], size: int
) -> tuple[Ranked, list[int]]:
    """Return the lists with the null and empty entries, and the entry that answers each question."""
    n_spans, n = len(spans.texts), len(null_texts)
    # Entry n_spans + i is the null answer of question i, entry n_spans + n + i its empty answer.
    texts = [*spans.texts, *null_texts, *[""] * n]
    nowhere = np.full(n, -1)
    more = Spans(np.arange(n), nulls.start_logit, nulls.end_logit, nowhere, nowhere)
    table = Spans._make(np.concatenate([own, added, added]) for own, added in zip(spans.spans, more, strict=True))
    question = spans.spans.example
    n_ahead = np.bincount(question[spans.spans.score >= nulls.score[question]], minlength=n).tolist()
    rows: list[int] = []
    splits, chosen = [0], []
    for index, (first, last) in enumerate(pairwise(spans.splits)):
        null = n_spans + index
        answer = null if is_null[index] else first
        entries = list(range(first, last))
        entries.insert(n_ahead[index], null)
        del entries[size:]
        if answer not in entries:
            entries.append(answer)
        if null_texts[index] or null not in entries:
            entries.append(null + n)
        chosen.append(len(rows) + entries.index(answer))
        rows.extend(entries)
        splits.append(len(rows))
    return Ranked([texts[row] for row in rows], table.take(np.array(rows, np.int64)), splits), chosen


def best_threshold(difference: NDArray[np.float64], span: NDArray[np.float64], null: NDArray[np.float64]) -> float:
    """Return the threshold t that maximises the sum of `null` where difference > t, and of `span` elsewhere.

    Args:
        difference: float64 [E], null score minus span score; inf where the answer is null at any threshold.
        span: float64 [E], what the span scores.
        null: float64 [E], what the null answer scores.

    Returns:
        0 if no other threshold does better; else the middle, nearest to 0, of a best interval of thresholds.
    """
    finite = np.isfinite(difference)
    order = np.argsort(difference[finite], kind="stable")
    values, gain = difference[finite][order], (span - null)[finite][order]
    edges, counts = np.unique(values, return_counts=True)
    if not len(edges):
        return 0.0
    # Interval k, from edge k - 1 up to but without edge k, gives the questions of the first k edges their span.
    total = np.concatenate([[0.0], np.cumsum(gain)])[np.concatenate([[0], np.cumsum(counts)])]
    bounds = np.concatenate([[edges[0] - 2], edges, [edges[-1] + 2]])
    low, high = bounds[:-1], bounds[1:]
    middle = low + (high - low) / 2
    # Between neighbouring floats the middle may be the upper one, which belongs to the next interval.
    threshold = np.where(middle < high, middle, low)
    threshold[np.searchsorted(edges, 0.0, side="right")] = 0.0
    best = threshold[total >= total.max() - _ROUNDING]
    return float(best[np.abs(best).argmin()])
