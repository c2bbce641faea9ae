"""Values of span problems, made by hand: heads, features, batches and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from preprocess.template import BERT
from preprocess.types import NO_TARGET, Answer, Batch, Example, FeatureSet, HeadSpec, Outputs
from tasks.problems.kinds import KindProblem
from tasks.problems.span import SpanProblem, encode_spans

SPAN = SpanProblem.head
#: The head of a task whose answers may be of three kinds beside spans.
KINDS = KindProblem(dict.fromkeys(("unknown", "yes", "no"), "")).head


def head_of(kinds: Sequence[str]) -> HeadSpec:
    """The head of a task with these kinds of answers beside spans; none for spans alone."""
    return KindProblem(dict.fromkeys(kinds, "")).head if kinds else SPAN


def encode(
    examples: Sequence[Example],
    targets: Sequence[Answer | None],
    tokenizer: Any,
    kinds: Sequence[str] = (),
    **params: Any,
) -> FeatureSet:
    """Windows with the labels of spans, and of kinds if there are any."""
    return encode_spans(head_of(kinds), tuple(kinds), examples, targets, tokenizer, **params)


def span_features(
    *, example_index: ArrayLike, context_index: ArrayLike, start: ArrayLike, end: ArrayLike, meta: Any, **columns: Any
) -> FeatureSet:
    """A FeatureSet of W windows, each of which has its example's only pair of texts."""
    example = np.asarray(example_index, np.int32)
    features = FeatureSet(
        example_index=example,
        option_index=np.zeros(len(example), np.int32),
        context_index=np.asarray(context_index, np.int32),
        targets={},
        meta={"template": BERT.as_json(), "losses": {}, "counts": {}, **meta},
        **columns,
    )
    return features.with_targets(SPAN, {"start": np.asarray(start, np.int32), "end": np.asarray(end, np.int32)}, {})


def span_batch(
    *,
    window: ArrayLike,
    input_ids: ArrayLike,
    attention_mask: ArrayLike,
    token_type_ids: ArrayLike,
    start: ArrayLike,
    end: ArrayLike,
    kind: ArrayLike | None = None,
) -> Batch:
    """A batch with the targets of spans and of kinds (none: all windows have a span); one window an example."""
    index = np.asarray(window, np.int32)
    named = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
    targets = {"start": start, "end": end, "kind": np.full(len(index), NO_TARGET) if kind is None else kind}
    inputs, labels = ({name: np.asarray(x, np.int32) for name, x in part.items()} for part in (named, targets))
    return Batch(index, index, inputs, labels)


def span_outputs(window: Any, start: Any, end: Any, kind: Any = None) -> Outputs:
    """What a model with a span head, or with kinds too, says of a batch."""
    values = {"start": start, "end": end}
    return Outputs(window, values if kind is None else {**values, "kind": kind})
