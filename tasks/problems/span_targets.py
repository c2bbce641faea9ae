"""Answers -> the places that spans are learned from, window by window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from preprocess.align import align
from preprocess.base.errors import DataError
from preprocess.template import null_positions
from preprocess.types import NO_TARGET, Answer, FeatureSet


def label_spans(
    features: FeatureSet, targets: Sequence[Answer | None], kinds: tuple[str, ...]
) -> tuple[dict[str, NDArray[np.integer]], dict[str, int]]:
    """Find the targets in the windows.

    A window that does not hold the whole target is labelled with the null position as start and end, as in SQuAD 2.0.

    Args:
        features: W windows of E examples.
        targets: E answers to train on; None or an answer without a place gives no label.
        kinds: names of the answers that are no span, in the order of their logits.

    Returns:
        "start" and "end", int32 [W], the positions of the target's first and last piece; "kind", int8 [W], index into
        `kinds`, `NO_TARGET` where the target is a span; "unanswerable", int8 [W], 1 where these positions are the
        null position, else 0; and counts for the report.

    Raises:
        DataError: if a target's kind is unknown.
    """
    # Without a logit for "unknown", unanswerable questions are labelled with that position, too, as in SQuAD 2.0.
    numbers = {"span": NO_TARGET, "unknown": NO_TARGET, **{name: index for index, name in enumerate(kinds)}}
    unknown = sorted({target.kind for target in targets if target is not None} - numbers.keys())
    if unknown:
        raise DataError(f"target kind {unknown[0]!r} is not one of {sorted(numbers)}; give the task's kinds")
    kind = np.array([NO_TARGET if t is None else numbers[t.kind] for t in targets], np.int8)
    is_span = np.array([t is not None and t.kind == "span" and t.located for t in targets], bool)
    spans = [(t.char_start, t.char_end) for t in targets if t is not None and t.kind == "span" and t.located]
    chars = np.array(spans, np.int64).reshape(-1, 2)
    example = features.example_index
    first_window = np.flatnonzero(np.diff(example, prepend=-1))
    context = features.context_index[first_window][is_span].astype(np.int64)
    pieces = align(features.piece_spans, features.piece_splits, context, chars[:, 0], chars[:, 1])
    token_start, token_end = np.full(len(targets), -1), np.full(len(targets), -1)
    token_start[is_span], token_end[is_span] = pieces.token_start, pieces.token_end

    first, last = token_start[example], token_end[example]
    held = (first >= features.piece_start) & (last < features.piece_start + features.doc_length) & (first >= 0)
    shift = features.doc_offset - features.piece_start
    null = null_positions(features)
    start_position = np.where(held, first + shift, null).astype(np.int32)
    end_position = np.where(held, last + shift, null).astype(np.int32)
    absent = kinds.index("unknown") if "unknown" in kinds else NO_TARGET
    trainable = token_start >= 0
    window_kind = np.where(trainable[example] & ~held, absent, kind[example]).astype(np.int8)
    in_window = np.bincount(example[held], minlength=len(trainable)) > 0
    n_spans, n_kinds = int(np.count_nonzero(is_span)), sum(t is not None and t.kind != "span" for t in targets)
    counts = {
        "target_span": n_spans,
        "target_kind": n_kinds,
        "without_target": len(targets) - n_spans - n_kinds,
        "target_widened": int(np.count_nonzero(pieces.widened)),
        "target_without_piece": int(np.count_nonzero(pieces.token_start < 0)),
        "target_in_no_window": int(np.count_nonzero(trainable & ~in_window)),
        "target_not_in_first_window": int(np.count_nonzero(trainable & ~held[first_window])),
    }
    labels: dict[str, NDArray[np.integer]] = {
        "start": start_position,
        "end": end_position,
        "kind": window_kind,
        "unanswerable": (~held).astype(np.int8),
    }
    return labels, counts
