"""FeatureSet -> Batch: a reproducible order of windows, like lengths together, padding to few lengths."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preprocess.types import Batch, FeatureSet


def collate(
    features: FeatureSet,
    window_indices: ArrayLike,
    *,
    pad_to_multiple_of: int = 32,
    padding_side: Literal["right", "left"] = "right",
) -> Batch:
    """Pad windows to one length: the longest, rounded up, but never over `max_seq_length`.

    Args:
        features: the windows.
        window_indices: integer [B], at least one.
        pad_to_multiple_of: 1 or more.
        padding_side: where the padding stands; positions count from the first column of the padded row.
    """
    window = np.asarray(window_indices, np.int32)
    assert window.ndim == 1 and len(window), "a batch holds at least one window"
    starts = features.row_splits[window]
    lengths = features.row_splits[window + 1] - starts
    longest = int(lengths.max())
    width = max(longest, min(-(-longest // pad_to_multiple_of) * pad_to_multiple_of, features.meta["max_seq_length"]))
    shift = width - lengths if padding_side == "left" else np.zeros_like(lengths)
    column = np.arange(width)[None, :] - shift[:, None]  # position in the unpadded window
    real = (column >= 0) & (column < lengths[:, None])
    source = starts[:, None] + np.where(real, column, 0)
    input_ids = np.where(real, features.input_ids[source], features.meta["pad_id"]).astype(np.int32)
    context = real & (column >= features.doc_offset[window][:, None])
    return Batch(
        window=window,
        input_ids=input_ids,
        attention_mask=real.astype(np.int32),
        token_type_ids=context.astype(np.int32),
        start_position=(features.start_position[window] + shift).astype(np.int32),
        end_position=(features.end_position[window] + shift).astype(np.int32),
        kind=features.kind[window].astype(np.int32),
    )


def epoch_batches(
    features: FeatureSet,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    group_by_length: bool = True,
    mega_batch: int = 50,
) -> list[NDArray[np.int32]]:
    """Order all windows for one epoch: each once, all batches full but the last of the epoch.

    Like lengths stand together inside shuffled groups of `mega_batch * batch_size` windows; the batches of a group
    are shuffled again. The order depends on the arguments only.

    Args:
        features: W windows.
        batch_size: windows per batch.
        seed: 0 or more.
        epoch: 0 or more; each epoch has its own order.
        group_by_length: False leaves the windows in plain random order.
        mega_batch: batches per group.

    Returns:
        Window indices, int32 [batch_size] each; the last may be shorter.
    """
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch])))
    order = random.permutation(len(features)).astype(np.int32)
    n_full = len(order) // batch_size
    # The remainder is cut off before sorting, so that it is a random sample and not the longest windows.
    full, rest = order[: n_full * batch_size], order[n_full * batch_size :]
    if group_by_length:
        group = np.arange(len(full)) // (mega_batch * batch_size)
        full = full[np.lexsort((features.lengths[full], group))]
    batches = full.reshape(n_full, batch_size)
    if group_by_length:
        batches = batches[np.lexsort((random.random(n_full), np.arange(n_full) // mega_batch))]
    return [*batches, rest] if len(rest) else list(batches)


def eval_batches(features: FeatureSet, batch_size: int) -> list[NDArray[np.int32]]:
    """Return all windows once, shortest first, int32 [batch_size] each; the last may be shorter."""
    order = np.argsort(features.lengths, kind="stable").astype(np.int32)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
