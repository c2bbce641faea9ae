"""One value per piece of each example's context, whichever windows hold it, and the way to and from the windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.align import PieceSpans, align
from preprocess.base.errors import DataError
from preprocess.ranges import Ints, offsets, ranges
from preprocess.types import FeatureSet, Outputs


class Pieces:
    """The pieces of E examples' contexts, one example after the other: N in all.

    Attributes:
        base: int64 [E + 1]; example i has pieces base[i] to base[i + 1].
        spans: int32 [N, 2], their places in the contexts.
    """

    def __init__(self, features: FeatureSet, n_examples: int) -> None:
        """Lay them out; every example has a window."""
        self._features = features
        self._context = np.zeros(n_examples, np.int64)
        self._context[features.example_index] = features.context_index
        sizes = np.diff(features.piece_splits)[self._context]
        self.base = offsets(sizes)
        self.spans = features.piece_spans[ranges(features.piece_splits[self._context], sizes)]

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Whether each piece has no character, such as a lone "▁", bool [N]."""
        return self.spans[:, 0] == self.spans[:, 1]

    def find(self, example: Ints, char_start: Ints, char_end: Ints) -> PieceSpans:
        """Return the first and last piece of n spans of characters, among all N.

        Args:
            example: int64 [n], whose context each span is in.
            char_start: int64 [n], its first code point.
            char_end: int64 [n], one past its last.
        """
        features, base = self._features, self.base[example]
        found = align(features.piece_spans, features.piece_splits, self._context[example], char_start, char_end)
        none = found.token_start < 0
        first, last = (np.where(none, -1, base + place) for place in (found.token_start, found.token_end))
        return PieceSpans(first, last, found.widened)

    def to_tokens(self, values: NDArray[Any], fill: int) -> NDArray[Any]:
        """Return the value of every token of all windows, [T], given one per piece, [N]; `fill` for other tokens."""
        features = self._features
        tokens = np.full(len(features.input_ids), fill, values.dtype)
        sizes = features.doc_length.astype(np.int64)
        pieces = self.base[features.example_index] + features.piece_start
        tokens[ranges(features.row_splits[:-1] + features.doc_offset, sizes)] = values[ranges(pieces, sizes)]
        return tokens

    def from_tokens(self, tokens: NDArray[Any], windows: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        """Return the value that each piece has in the window with most of its context, [N], given one per token, [T].

        Args:
            tokens: of all windows.
            windows: bool [W], which ones count: those of one pair of texts of each example; None where each has one.
        """
        features = self._features
        first, last = features.max_context.T.astype(np.int64)
        sizes = last - first if windows is None else (last - first) * windows
        pieces = self.base[features.example_index] + features.piece_start + first
        values = np.zeros(len(self.spans), tokens.dtype)
        values[ranges(pieces, sizes)] = tokens[ranges(features.row_splits[:-1] + features.doc_offset + first, sizes)]
        return values


def watched(
    outputs: Iterable[Outputs],
    features: FeatureSet,
    name: str,
    reduce: Callable[[NDArray[np.float32]], NDArray[Any]],
    tokens: NDArray[Any],
) -> Iterator[Outputs]:
    """Yield batches unchanged, and keep of each token what is needed of an output that reads tokens.

    Args:
        outputs: batches on their way to another decoder.
        features: their windows, with T tokens.
        name: of the output.
        reduce: its values for n tokens, float32 [n, size], to what is kept, [n].
        tokens: [T], is filled.

    Raises:
        DataError: if a value of a token is not finite.
    """
    lengths = features.lengths
    for batch in outputs:
        window, values = np.asarray(batch.window), batch.values[name]
        own = values[np.arange(values.shape[1]) < lengths[window, None]]
        finite = np.isfinite(own).all(axis=1)
        if not finite.all():
            first = np.repeat(window, lengths[window])[np.argmin(finite)]
            raise DataError(
                f"window {first}: a logit of {name} is not finite: the model has diverged or overflowed; lower the "
                "learning rate or use float32."
            )
        tokens[ranges(features.row_splits[window], lengths[window])] = reduce(own)
        yield batch
