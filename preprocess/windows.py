"""Examples -> FeatureSet: windows `[CLS] question [SEP] context-part [SEP]`, each text tokenised once, then numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.align import align
from preprocess.base.errors import DataError
from preprocess.text.offsets import MappedText, TextTransform
from preprocess.tokenizers.wordpiece import WordPieceTokenizer
from preprocess.types import SPAN_KIND, Answer, Example, FeatureSet, Pieces

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where the windows lie: int64 [W], except `first_window` [E]."""

    example: Ints
    first_window: Ints
    query_length: Ints
    piece_start: Ints
    doc_length: Ints


@dataclass(frozen=True, slots=True)
class _Targets:
    """Piece spans of the targets, [E]; -1 where there is none."""

    token_start: Ints
    token_end: Ints
    kind: NDArray[np.int8]
    is_span: NDArray[np.bool_]


def encode(
    examples: Sequence[Example],
    targets: Sequence[Answer | None],
    tokenizer: WordPieceTokenizer,
    *,
    max_seq_length: int = 512,
    doc_stride: int = 128,
    doc_overlap: int | None = None,
    max_query_length: int = 64,
    kinds: Sequence[str] = (),
    transform: TextTransform | None = None,
) -> FeatureSet:
    """Cut examples into windows, as `convert_examples_to_features` of google-research/bert's run_squad.py.

    Windows of an example start at piece 0, step, 2 * step … up to the first that reaches the end of the context.

    Args:
        examples: E examples.
        targets: E answers to train on; None or an answer without a place gives no label.
        tokenizer: makes the pieces.
        max_seq_length: most tokens of a window, the three special ones included.
        doc_stride: pieces from one window's start to the next (at most a whole window).
        doc_overlap: pieces that neighbouring windows share (transformers' stride); replaces `doc_stride`.
        max_query_length: most pieces of a question; the rest is cut off.
        kinds: names of the answers that are no span, in the order of their logits.
        transform: derives what is tokenised from contexts and questions; `piece_spans`, and so labels and answers,
            stay places in the published context.

    Raises:
        DataError: if a parameter is impossible for these examples, or a target's kind is unknown.
    """
    assert len(examples) == len(targets), "one target (or None) per example"
    context_index = _first_seen([example.context for example in examples])
    question_index = _first_seen([example.question for example in examples])
    contexts = _tokenise([example.context for example in examples], tokenizer, transform)
    questions = _tokenise([example.question for example in examples], tokenizer, transform)
    question_length = np.diff(questions.splits)[question_index]
    context_length = np.diff(contexts.splits)[context_index]
    grid = _lay_windows(question_length, context_length, max_seq_length, doc_stride, doc_overlap, max_query_length)
    input_ids, row_splits = _fill_ids(grid, contexts, questions, context_index, question_index, tokenizer)

    counts = {
        "n_examples": len(examples),
        "n_contexts": len(contexts.splits) - 1,
        "n_windows": len(grid.example),
        "n_tokens": len(input_ids),
        "n_context_pieces": len(contexts.ids),
        "n_pieces_unknown": int(np.count_nonzero(contexts.ids == tokenizer.unk_id)),
        "query_truncated": int(np.count_nonzero(question_length > max_query_length)),
        "context_split": int(np.count_nonzero(np.bincount(grid.example, minlength=len(examples)) > 1)),
    }
    aligned = _align_targets(targets, contexts, context_index, tuple(kinds), counts)
    start_position, end_position, kind = _label(grid, aligned, tuple(kinds), counts)
    return FeatureSet(
        input_ids=input_ids,
        row_splits=row_splits,
        example_index=grid.example.astype(np.int32),
        doc_offset=(grid.query_length + 2).astype(np.int32),
        doc_length=grid.doc_length.astype(np.int32),
        piece_start=grid.piece_start.astype(np.int32),
        max_context=max_context_ranges(grid.example, grid.piece_start, grid.doc_length),
        start_position=start_position,
        end_position=end_position,
        kind=kind,
        context_index=context_index.astype(np.int32),
        piece_spans=contexts.spans,
        piece_splits=contexts.splits,
        meta={"max_seq_length": max_seq_length, "pad_id": tokenizer.pad_id, "counts": counts},
    )


def _tokenise(texts: Sequence[str], tokenizer: WordPieceTokenizer, transform: TextTransform | None) -> Pieces:
    """Return the pieces of the distinct texts, in the order of `_first_seen`, with their spans in these texts."""
    distinct = list(dict.fromkeys(texts))
    if transform is None:
        return tokenizer.encode(distinct)
    derived = [transform(text) for text in distinct]
    return _map_back(tokenizer.encode([mapped.text for mapped in derived]), derived)


def _map_back(pieces: Pieces, derived: Sequence[MappedText]) -> Pieces:
    """Return pieces of derived texts with their spans in the original ones."""
    if not len(pieces.ids):
        return pieces
    lengths = np.array([len(mapped.text) for mapped in derived], np.int64)
    base = np.repeat(np.cumsum(lengths) - lengths, np.diff(pieces.splits))
    starts = np.concatenate([mapped.starts for mapped in derived])[base + pieces.spans[:, 0]]
    ends = np.concatenate([mapped.ends for mapped in derived])[base + pieces.spans[:, 1] - 1]
    return Pieces(pieces.ids, np.stack([starts, ends], axis=1).astype(np.int32), pieces.splits)


def _first_seen(texts: Sequence[str]) -> Ints:
    index = {text: position for position, text in enumerate(dict.fromkeys(texts))}
    return np.fromiter(map(index.__getitem__, texts), np.int64, len(texts))


def _lay_windows(
    question_length: Ints,
    context_length: Ints,
    max_seq_length: int,
    doc_stride: int,
    doc_overlap: int | None,
    max_query_length: int,
) -> _Grid:
    if max_query_length < 0:
        raise DataError(f"max_query_length {max_query_length} is negative; give 0 or more")
    query_length = np.minimum(question_length, max_query_length)
    room = max_seq_length - query_length - 3
    least = int(room.min(initial=max_seq_length - 3))
    if least < 1:
        raise DataError(
            f"max_seq_length {max_seq_length} leaves no room for the context beside a question of "
            f"{int(query_length.max(initial=0))} pieces and 3 special tokens; "
            f"raise it to {max_seq_length + 1 - least} or more, or lower max_query_length"
        )
    if doc_overlap is not None:
        if not 0 <= doc_overlap < least:
            raise DataError(
                f"doc_overlap {doc_overlap} must be from 0 to {least - 1}: the longest question leaves {least} "
                f"pieces of context in a window of max_seq_length {max_seq_length}"
            )
        step = room - doc_overlap
    else:
        if doc_stride < 1:
            raise DataError(f"doc_stride {doc_stride} must be 1 or more")
        step = np.minimum(doc_stride, room)
    n_windows = 1 + np.maximum(0, -((room - context_length) // step))  # ceil((context - room) / step), at least 0
    example = np.repeat(np.arange(len(room)), n_windows)
    first_window = np.cumsum(n_windows) - n_windows
    piece_start = (np.arange(len(example)) - first_window[example]) * step[example]
    doc_length = np.minimum(room[example], context_length[example] - piece_start)
    return _Grid(example, first_window, query_length[example], piece_start, doc_length)


def _fill_ids(
    grid: _Grid,
    contexts: Pieces,
    questions: Pieces,
    context_index: Ints,
    question_index: Ints,
    tokenizer: WordPieceTokenizer,
) -> tuple[NDArray[np.integer], Ints]:
    row_splits = np.zeros(len(grid.example) + 1, np.int64)
    np.cumsum(grid.query_length + grid.doc_length + 3, out=row_splits[1:])
    row_start = row_splits[:-1]
    input_ids = np.full(row_splits[-1], tokenizer.sep_id, contexts.ids.dtype)
    input_ids[row_start] = tokenizer.cls_id
    question_start = questions.splits[question_index[grid.example]]
    input_ids[ranges(row_start + 1, grid.query_length)] = questions.ids[ranges(question_start, grid.query_length)]
    piece_start = contexts.splits[context_index[grid.example]] + grid.piece_start
    doc_start = row_start + grid.query_length + 2
    input_ids[ranges(doc_start, grid.doc_length)] = contexts.ids[ranges(piece_start, grid.doc_length)]
    return input_ids, row_splits


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """Return `starts[i], starts[i] + 1, …` (`lengths[i]` of them) for all i one after the other, int64."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - ends + lengths, lengths) + np.arange(total)


def max_context_ranges(example: Ints, piece_start: Ints, doc_length: Ints) -> NDArray[np.int32]:
    """Find the pieces that have their largest context in each window.

    The rule is `_check_is_max_context` of google-research/bert's run_squad.py: of the windows that hold a piece the
    one with the largest `min(left, right) + 0.01 * length` in float64, the first of equals. Between two windows of a
    context the later one's lead only grows from left to right, so there is one crossing per pair, found by bisection.

    Args:
        example: [W], windows of an example are adjacent and start further and further right.
        piece_start: [W], first piece of each window.
        doc_length: [W], pieces in each window.

    Returns:
        int32 [W, 2], half-open ranges relative to each window's first piece; (0, 0) where there is no such piece.
    """
    low, high = piece_start.copy(), piece_start + doc_length
    apart = 1
    while (n_pairs := len(example) - apart) > 0:
        overlap = (example[:n_pairs] == example[apart:]) & (
            piece_start[apart:] < (piece_start + doc_length)[:n_pairs]
        )
        early = np.flatnonzero(overlap) if n_pairs > 0 else np.empty(0, np.int64)
        if not len(early):
            break
        crossing = _crossing(piece_start, doc_length, early, early + apart)
        high[early] = np.minimum(high[early], crossing)
        low[early + apart] = np.maximum(low[early + apart], crossing)
        apart += 1
    relative = np.stack([low, high], axis=1) - piece_start[:, None]
    relative[high <= low] = 0
    return relative.astype(np.int32)


def _crossing(piece_start: Ints, doc_length: Ints, early: Ints, late: Ints) -> Ints:
    """Return the first piece that has more context in window `late` than in window `early`, for each pair."""

    def score(window: Ints, piece: Ints) -> NDArray[np.float64]:
        left = piece - piece_start[window]
        right = piece_start[window] + doc_length[window] - 1 - piece
        return np.minimum(left, right) + 0.01 * doc_length[window]

    low, high = piece_start[late].copy(), piece_start[early] + doc_length[early]
    while (low < high).any():
        middle = (low + high) // 2
        later_wins = score(late, middle) > score(early, middle)
        active = low < high
        high = np.where(active & later_wins, middle, high)
        low = np.where(active & ~later_wins, middle + 1, low)
    return low


def _align_targets(
    targets: Sequence[Answer | None],
    contexts: Pieces,
    context_index: Ints,
    kinds: tuple[str, ...],
    counts: dict[str, int],
) -> _Targets:
    # Without a logit for "unknown", unanswerable questions are labelled with the span of [CLS], as in SQuAD 2.0.
    numbers = {"span": SPAN_KIND, "unknown": SPAN_KIND, **{name: index for index, name in enumerate(kinds)}}
    unknown = sorted({target.kind for target in targets if target is not None} - numbers.keys())
    if unknown:
        raise DataError(f"target kind {unknown[0]!r} is not one of {sorted(numbers)}; give the task's kinds")
    kind = np.array([SPAN_KIND if t is None else numbers[t.kind] for t in targets], np.int8)
    is_span = np.array([t is not None and t.kind == "span" and t.located for t in targets], bool)
    spans = [(t.char_start, t.char_end) for t in targets if t is not None and t.kind == "span" and t.located]
    chars = np.array(spans, np.int64).reshape(-1, 2)
    token_start, token_end = np.full(len(targets), -1), np.full(len(targets), -1)
    found = align(contexts, context_index[is_span], chars[:, 0], chars[:, 1])
    token_start[is_span], token_end[is_span] = found.token_start, found.token_end
    counts["target_span"] = int(np.count_nonzero(is_span))
    counts["target_kind"] = sum(target is not None and target.kind != "span" for target in targets)
    counts["without_target"] = len(targets) - counts["target_span"] - counts["target_kind"]
    counts["target_widened"] = int(np.count_nonzero(found.widened))
    counts["target_without_piece"] = int(np.count_nonzero(found.token_start < 0))
    return _Targets(token_start, token_end, kind, is_span)


def _label(
    grid: _Grid, targets: _Targets, kinds: tuple[str, ...], counts: dict[str, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int8]]:
    first, last = targets.token_start[grid.example], targets.token_end[grid.example]
    held = (first >= grid.piece_start) & (last < grid.piece_start + grid.doc_length) & (first >= 0)
    shift = grid.query_length + 2 - grid.piece_start
    start_position = np.where(held, first + shift, 0).astype(np.int32)
    end_position = np.where(held, last + shift, 0).astype(np.int32)
    absent = kinds.index("unknown") if "unknown" in kinds else SPAN_KIND
    trainable = targets.token_start >= 0
    kind = np.where(trainable[grid.example] & ~held, absent, targets.kind[grid.example]).astype(np.int8)
    in_window = np.bincount(grid.example[held], minlength=len(trainable)) > 0
    in_first = held[grid.first_window]
    counts["target_in_no_window"] = int(np.count_nonzero(trainable & ~in_window))
    counts["target_not_in_first_window"] = int(np.count_nonzero(trainable & ~in_first))
    return start_position, end_position, kind
