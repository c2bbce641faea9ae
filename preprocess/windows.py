"""Texts -> FeatureSet: windows of a question and a part of the context, each text tokenised once, then numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.align import align, spans_with_tails
from preprocess.base.errors import DataError
from preprocess.ranges import Ints, offsets, ranges
from preprocess.template import BERT, CONTEXT, QUESTION, Template
from preprocess.text.offsets import MappedText, TextTransform
from preprocess.tokenizers.base import Encoder
from preprocess.types import FeatureSet, Pieces


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where the windows lie, int64 [W]: the pair of texts they come from, and what they hold of it."""

    pair: Ints
    query_length: Ints
    piece_start: Ints
    doc_length: Ints


def cut_windows(
    questions: Sequence[str],
    contexts: Sequence[str],
    tokenizer: Encoder,
    *,
    example_index: Sequence[int] | None = None,
    max_seq_length: int = 512,
    doc_stride: int = 128,
    doc_overlap: int | None = None,
    max_query_length: int = 64,
    max_windows: int | None = None,
    template: Template = BERT,
    transform: TextTransform | None = None,
    around: Sequence[int] | None = None,
) -> FeatureSet:
    """Cut pairs of texts into windows, as `convert_examples_to_features` of google-research/bert's run_squad.py.

    Windows of a pair start at piece 0, step, 2 * step … up to the first that reaches the end of the context.

    Args:
        questions: P texts that stand in every window of their pair.
        contexts: P texts that windows hold a part of.
        tokenizer: makes the pieces.
        example_index: the example of each pair, those of one example adjacent; None where each has one pair.
        max_seq_length: most tokens of a window, the special ones included.
        doc_stride: pieces from one window's start to the next (at most a whole window).
        doc_overlap: pieces that neighbouring windows share (transformers' stride); replaces `doc_stride`.
        max_query_length: most pieces of a question; the rest is cut off.
        max_windows: most windows of a pair, so that the rest of its context is cut off; None for as many as it takes.
        template: where question, context and special tokens stand in a window.
        transform: derives what is tokenised from the texts; `piece_spans`, and so labels and answers, stay places in
            the published context.
        around: a code point of each pair's context, which gets one window then: the one that has this place in its
            middle, or as near to it as the context's ends allow. None for windows over the whole context.

    Returns:
        the windows, without targets.

    Raises:
        DataError: if a parameter is impossible for these texts, or the tokenizer lacks one of the special tokens.
    """
    missing = sorted(set(template.special) - tokenizer.special_ids.keys())
    if missing:
        raise DataError(
            f"the tokenizer has no {missing[0]!r} token, which windows need; give the model's own tokenizer"
        )
    example_of = np.arange(len(contexts)) if example_index is None else np.asarray(example_index, np.int64)
    context_index, question_index = _first_seen(contexts), _first_seen(questions)
    context_pieces = _tokenise(contexts, tokenizer, transform)
    question_pieces = _tokenise(questions, tokenizer, transform)
    has_question = QUESTION in template.order
    question_length = np.diff(question_pieces.splits)[question_index] * has_question
    context_length = np.diff(context_pieces.splits)[context_index]
    window_sizes = (max_seq_length, doc_stride, doc_overlap, max_query_length)
    if around is None:
        grid = _lay_windows(question_length, context_length, template.n_special, *window_sizes)
    else:
        place = np.asarray(around, np.int64)
        middle = align(context_pieces.spans, context_pieces.splits, context_index, place, place + 1).token_start
        sizes = (template.n_special, max_seq_length, max_query_length)
        grid = _lay_around(np.maximum(middle, 0), question_length, context_length, *sizes)
    n_cut = 0
    if max_windows is not None:
        grid, n_cut = _first_windows(grid, max_windows)
    texts = {
        QUESTION: (question_pieces, question_pieces.splits[question_index[grid.pair]]),
        CONTEXT: (context_pieces, context_pieces.splits[context_index[grid.pair]] + grid.piece_start),
    }
    input_ids, row_splits = _fill_ids(grid, template, texts, tokenizer)
    doc_offset = template.starts(np.diff(row_splits), grid.doc_length)[template.order.index(CONTEXT)]
    n_examples = len(np.unique(example_of))
    first_pair = np.flatnonzero(np.diff(example_of, prepend=-1))
    counts = {
        "n_examples": n_examples,
        "n_contexts": len(context_pieces.splits) - 1,
        "n_windows": len(grid.pair),
        "n_tokens": len(input_ids),
        "n_context_pieces": len(context_pieces.ids),
        "n_pieces_unknown": int(np.count_nonzero(context_pieces.ids == tokenizer.special_ids["unk"])),
        "query_truncated": int(np.count_nonzero(question_length > max_query_length)),
        "context_split": int(np.count_nonzero(np.bincount(grid.pair, minlength=len(contexts)) > 1)),
    }
    if max_windows is not None:
        counts["context_truncated"] = n_cut
    return FeatureSet(
        input_ids=input_ids,
        row_splits=row_splits,
        example_index=example_of[grid.pair].astype(np.int32),
        option_index=(grid.pair - first_pair[example_of[grid.pair]]).astype(np.int32),
        context_index=context_index[grid.pair].astype(np.int32),
        doc_offset=doc_offset.astype(np.int32),
        doc_length=grid.doc_length.astype(np.int32),
        piece_start=grid.piece_start.astype(np.int32),
        max_context=max_context_ranges(grid.pair, grid.piece_start, grid.doc_length),
        piece_spans=spans_with_tails(context_pieces.spans, context_pieces.splits, list(dict.fromkeys(contexts))),
        piece_splits=context_pieces.splits,
        targets={},
        meta={
            "max_seq_length": max_seq_length,
            "pad_id": tokenizer.special_ids["pad"],
            "template": template.as_json(),
            "losses": {},
            "counts": counts,
        },
    )


def _tokenise(texts: Sequence[str], tokenizer: Encoder, transform: TextTransform | None) -> Pieces:
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
    base, length = (np.repeat(each, np.diff(pieces.splits)) for each in (np.cumsum(lengths) - lengths, lengths))
    first, last = pieces.spans.T
    # One more than there are characters: behind the last one, and before the first one.
    starts_of = np.concatenate([*(mapped.starts for mapped in derived), [0]])
    ends_of = np.concatenate([*(mapped.ends for mapped in derived), [0]])
    # A piece without a character, such as a lone "▁", stands where the next one begins, or at the end.
    before = np.where(last > 0, ends_of[base + last - 1], 0)
    starts = np.where(first < length, starts_of[base + first], before)
    ends = np.maximum(starts, before)
    return Pieces(pieces.ids, np.stack([starts, ends], axis=1).astype(np.int32), pieces.splits)


def _first_seen(texts: Sequence[str]) -> Ints:
    index = {text: position for position, text in enumerate(dict.fromkeys(texts))}
    return np.fromiter(map(index.__getitem__, texts), np.int64, len(texts))


def _lay_windows(
    question_length: Ints,
    context_length: Ints,
    n_special: int,
    max_seq_length: int,
    doc_stride: int,
    doc_overlap: int | None,
    max_query_length: int,
) -> _Grid:
    query_length, room = _room(question_length, n_special, max_seq_length, max_query_length)
    least = int(room.min(initial=max_seq_length - n_special))
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
    pair = np.repeat(np.arange(len(room)), n_windows)
    first_window = np.cumsum(n_windows) - n_windows
    piece_start = (np.arange(len(pair)) - first_window[pair]) * step[pair]
    doc_length = np.minimum(room[pair], context_length[pair] - piece_start)
    return _Grid(pair, query_length[pair], piece_start, doc_length)


def _lay_around(
    middle: Ints,
    question_length: Ints,
    context_length: Ints,
    n_special: int,
    max_seq_length: int,
    max_query_length: int,
) -> _Grid:
    """Lay one window of each pair around a piece of its context."""
    query_length, room = _room(question_length, n_special, max_seq_length, max_query_length)
    piece_start = np.clip(middle - room // 2, 0, np.maximum(0, context_length - room))
    return _Grid(np.arange(len(room)), query_length, piece_start, np.minimum(room, context_length - piece_start))


def _room(question_length: Ints, n_special: int, max_seq_length: int, max_query_length: int) -> tuple[Ints, Ints]:
    """Return how many pieces of its question, and of the context, a window of each pair has room for."""
    if max_query_length < 0:
        raise DataError(f"max_query_length {max_query_length} is negative; give 0 or more")
    query_length = np.minimum(question_length, max_query_length)
    room = max_seq_length - query_length - n_special
    least = int(room.min(initial=max_seq_length - n_special))
    if least < 1:
        raise DataError(
            f"max_seq_length {max_seq_length} leaves no room for the context beside a question of "
            f"{int(query_length.max(initial=0))} pieces and {n_special} special tokens; "
            f"raise it to {max_seq_length + 1 - least} or more, or lower max_query_length"
        )
    return query_length, room


def _first_windows(grid: _Grid, most: int) -> tuple[_Grid, int]:
    """Leave out the windows of a pair behind its first ones; return how many pairs have lost some, too."""
    rank = np.arange(len(grid.pair)) - np.searchsorted(grid.pair, grid.pair)
    kept = rank < most
    columns = (grid.pair, grid.query_length, grid.piece_start, grid.doc_length)
    return _Grid(*(column[kept] for column in columns)), int(np.count_nonzero(rank == most))


def _fill_ids(
    grid: _Grid, template: Template, texts: Mapping[str, tuple[Pieces, Ints]], tokenizer: Encoder
) -> tuple[NDArray[np.integer], Ints]:
    """Return the tokens of all windows and where each begins, given pieces and the first piece of each window."""
    length = grid.query_length + grid.doc_length + template.n_special
    row_splits = offsets(length)
    starts = template.starts(length, grid.doc_length)
    sizes = np.diff(np.vstack([starts, length]), axis=0)
    input_ids = np.zeros(row_splits[-1], texts[CONTEXT][0].ids.dtype)
    for part, start, size in zip(template.order, row_splits[:-1] + starts, sizes, strict=True):
        if part in texts:
            pieces, first = texts[part]
            input_ids[ranges(start, size)] = pieces.ids[ranges(first, size)]
        else:
            input_ids[start] = tokenizer.special_ids[part]
    return input_ids, row_splits


def max_context_ranges(pair: Ints, piece_start: Ints, doc_length: Ints) -> NDArray[np.int32]:
    """Find the pieces that have their largest context in each window.

    The rule is `_check_is_max_context` of google-research/bert's run_squad.py: of the windows that hold a piece the
    one with the largest `min(left, right) + 0.01 * length` in float64, the first of equals. Between two windows of a
    context the later one's lead only grows from left to right, so there is one crossing per pair, found by bisection.

    Args:
        pair: [W], windows of a pair are adjacent and start further and further right.
        piece_start: [W], first piece of each window.
        doc_length: [W], pieces in each window.

    Returns:
        int32 [W, 2], half-open ranges relative to each window's first piece; (0, 0) where there is no such piece.
    """
    low, high = piece_start.copy(), piece_start + doc_length
    apart = 1
    while (n_pairs := len(pair) - apart) > 0:
        overlap = (pair[:n_pairs] == pair[apart:]) & (piece_start[apart:] < (piece_start + doc_length)[:n_pairs])
        early = np.flatnonzero(overlap)
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
