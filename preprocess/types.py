"""The values that flow through the toolkit.

raw file -> `Example` -> `FeatureSet` -> `Batch` -> `Logits` -> Prediction -> Score.

Everything here is numpy and the standard library: both frameworks, every task and the cache share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: `FeatureSet.kind` and `Batch.kind` of a window whose target is a span (ignored by the kind loss).
SPAN_KIND = -1


@dataclass(frozen=True, slots=True)
class Answer:
    """One annotated answer.

    Args:
        text: the answer as published, never stripped or converted.
        char_start: first code point of the answer in `Example.context`; -1 where it has no known place.
        char_end: one past the last code point; -1 where it has no known place.
        kind: "span", or what the task calls its other answers ("yes", "no", "unknown").
    """

    text: str
    char_start: int = -1
    char_end: int = -1
    kind: str = "span"

    @property
    def located(self) -> bool:
        """Whether the answer has a place in the context."""
        return self.char_start >= 0


@dataclass(frozen=True, slots=True)
class Example:
    """One question about one context, as published.

    Args:
        id: question id, unique in its file.
        question: the question, unchanged.
        context: the context, unchanged; all character offsets count its code points.
        answers: all annotators' answers, in file order.
        group: id of the article or case; splits keep groups together.
        extra: further published keys that a metric needs (CJRC's "domain").
    """

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] = ()
    group: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Tokenised texts, columnar.

    Args:
        ids: integer [n_pieces], all texts one after the other, without special tokens.
        spans: int32 [n_pieces, 2], half-open code-point span of each piece in its own text.
        splits: int64 [n_texts + 1]; text i holds pieces splits[i] to splits[i + 1].
    """

    ids: NDArray[np.integer]
    spans: NDArray[np.int32]
    splits: NDArray[np.int64]


@dataclass(frozen=True)
class FeatureSet:
    """All windows of a data set, columnar and unpadded: what the cache memory-maps and what batches slice.

    W windows hold T tokens; they come from E examples over C distinct contexts with P pieces.
    A window is `[CLS] question [SEP] context-part [SEP]`; positions count from its first token.

    Args:
        input_ids: uint16 or uint32 [T].
        row_splits: int64 [W + 1]; window w holds tokens row_splits[w] to row_splits[w + 1].
        example_index: int32 [W], the example a window belongs to; windows of an example are adjacent and in order.
        doc_offset: int32 [W], position of the first context piece.
        doc_length: int32 [W], number of context pieces in the window.
        piece_start: int32 [W], index (within its context) of the window's first context piece.
        max_context: int32 [W, 2], half-open range, relative to doc_offset, of the pieces that have their largest
            context in this window.
        start_position: int32 [W], position of the target's first piece; 0 where the window holds no whole target.
        end_position: int32 [W], position of the target's last piece (inclusive); 0 likewise.
        kind: int8 [W], index into `HeadSpec.kinds`, or `SPAN_KIND`.
        context_index: int32 [E], the distinct context of an example.
        piece_spans: int32 [P, 2], code-point spans of the context pieces in the original context.
        piece_splits: int64 [C + 1], pieces of context c are piece_splits[c] to piece_splits[c + 1].
        meta: JSON-able facts: "max_seq_length", "pad_id", and the counts of the encoding under "counts".
    """

    input_ids: NDArray[np.integer]
    row_splits: NDArray[np.int64]
    example_index: NDArray[np.int32]
    doc_offset: NDArray[np.int32]
    doc_length: NDArray[np.int32]
    piece_start: NDArray[np.int32]
    max_context: NDArray[np.int32]
    start_position: NDArray[np.int32]
    end_position: NDArray[np.int32]
    kind: NDArray[np.int8]
    context_index: NDArray[np.int32]
    piece_spans: NDArray[np.int32]
    piece_splits: NDArray[np.int64]
    meta: Mapping[str, Any]

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.row_splits) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per window, int64 [W]."""
        return np.diff(self.row_splits)

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Return the names of the array fields, in order."""
        return tuple(f.name for f in fields(cls) if f.name != "meta")


@dataclass(frozen=True, slots=True)
class Batch:
    """B windows padded to one length L, ready for a model.

    Args:
        window: int32 [B], index of each window in its FeatureSet.
        input_ids: int32 [B, L].
        attention_mask: int32 [B, L], 1 for a real token and 0 for padding.
        token_type_ids: int32 [B, L], 0 for the question and padding, 1 for the context.
        start_position: int32 [B]; position in the padded row.
        end_position: int32 [B], inclusive.
        kind: int32 [B], index into `HeadSpec.kinds`, or `SPAN_KIND`.
    """

    window: NDArray[np.int32]
    input_ids: NDArray[np.int32]
    attention_mask: NDArray[np.int32]
    token_type_ids: NDArray[np.int32]
    start_position: NDArray[np.int32]
    end_position: NDArray[np.int32]
    kind: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.window)


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """What a task asks of the model's head.

    Args:
        kinds: names of the answers that are no span, in the order of their logits; empty for span-only tasks.
    """

    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Logits:
    """A model's output for one batch; batches may come back in any order.

    Args:
        window: int32 [B], index of each row's window in its FeatureSet.
        start: float32 [B, L], start score per position; what stands at padding is not to be read.
        end: float32 [B, L], end score per position.
        kind: float32 [B, K] in the order of `HeadSpec.kinds`, or None for span-only heads.
    """

    window: NDArray[np.int32]
    start: NDArray[np.float32]
    end: NDArray[np.float32]
    kind: NDArray[np.float32] | None = None
