"""Options about windows and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from experiment.options.fields import AT_LEAST_0, TO_A_MILLION

#: A number of tokens, windows or answers.
Size = Annotated[int, TO_A_MILLION]


@dataclass(frozen=True, kw_only=True)
class WindowOptions:
    """Windows and answers."""

    max_seq_length: Size | None = None
    """Window length in tokens."""
    doc_stride: Size | None = None
    """Tokens between the starts of two windows, as in Google's BERT."""
    doc_overlap: Annotated[int, AT_LEAST_0] | None = None
    """Tokens that two windows share: transformers' meaning of stride; replaces --doc_stride."""
    max_query_length: Size | None = None
    """Questions are cut to this many tokens."""
    max_answer_length: Size | None = None
    """Longest answer, in tokens."""
    n_best_size: Size | None = None
    """Start and end positions considered per window, and answers listed per question."""
    null_score_diff_threshold: float | None = None
    """Answer "unanswerable" where its score exceeds the best span's by more (default: the checkpoint's, else 0;
    `train` tunes it on dev)."""
