"""FeatureSet -> Batch: a reproducible order of windows, like lengths together, padding to few lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preprocess.ranges import ranges
from preprocess.template import answer_mask, template_of
from preprocess.types import NO_TARGET, PER_TOKEN, Batch, FeatureSet, Outputs


def collate(features: FeatureSet, window_indices: ArrayLike, *, pad_to_multiple_of: int = 32) -> Batch:
    """Pad windows to one length: the longest, rounded up, but never over `max_seq_length`.

    Padding stands where the windows' template has it; positions count from the first column of the padded row.

    Args:
        features: the windows.
        window_indices: integer [B], at least one.
        pad_to_multiple_of: 1 or more.
    """
    template = template_of(features)
    window = np.asarray(window_indices, np.int32)
    assert window.ndim == 1 and len(window), "a batch holds at least one window"
    starts = features.row_splits[window]
    lengths = features.row_splits[window + 1] - starts
    longest = int(lengths.max())
    width = max(longest, min(-(-longest // pad_to_multiple_of) * pad_to_multiple_of, features.meta["max_seq_length"]))
    shift = np.zeros_like(lengths)
    position = np.arange(width, dtype=np.int32)[None, :]  # in the unpadded window
    real = position < lengths[:, None].astype(np.int32)
    if template.padding_side == "left":
        shift = width - lengths
        position = position - shift[:, None].astype(np.int32)
        real = position >= 0
    source = starts[:, None] + position  # of padding another window's tokens, or clipped
    tokens = np.take(features.input_ids, source, mode="clip")
    types = template.token_types(template.starts(lengths, features.doc_length[window]), position)
    padding = np.int8(template.padding_segment)
    inputs = {
        "input_ids": np.where(real, tokens, features.meta["pad_id"]).astype(np.int32),
        "attention_mask": real.astype(np.int32),
        "token_type_ids": ((types - padding) * real + padding).astype(np.int32),
    }
    if features.meta.get("answer_mask", False):
        inputs["answer_mask"] = answer_mask(features, window, position).astype(np.int32)
    targets = {}
    for name, target in features.targets.items():
        if features.meta["losses"][name] in ("tag", "piece"):
            targets[name] = np.where(real, np.take(target, source, mode="clip"), NO_TARGET).astype(np.int32)
        elif features.meta["losses"][name] == "position":
            own = target[window]
            targets[name] = np.where(own == NO_TARGET, NO_TARGET, own + shift).astype(np.int32)
        else:
            targets[name] = target[window].astype(np.int32)
    soft = {
        name: np.where(real, np.take(column, source, mode="clip"), np.float32(0))
        if features.meta["losses"][name] in PER_TOKEN
        else column[window]
        for name, column in features.soft.items()
    }
    return Batch(window, features.example_index[window].astype(np.int32), inputs, targets, soft=soft)


def widened(features: FeatureSet, batch: Batch, width: int) -> Batch:
    """Return a batch of these windows, without targets, padded to a length that is none of theirs.

    Args:
        features: the windows.
        batch: of `collate`.
        width: at least its length.
    """
    template = template_of(features)
    pad, segment = features.meta["pad_id"], template.padding_segment
    fill = {"input_ids": pad, "attention_mask": 0, "token_type_ids": segment, "answer_mask": 0}
    missing = width - batch.inputs["input_ids"].shape[1]
    sides = (missing, 0) if template.padding_side == "left" else (0, missing)
    inputs = {name: np.pad(rows, ((0, 0), sides), constant_values=fill[name]) for name, rows in batch.inputs.items()}
    return Batch(batch.window, batch.group, inputs, {})


def unpadded(features: FeatureSet, outputs: Outputs) -> Outputs:
    """Return what a model says of a batch with the values of tokens where these stand in their windows.

    Column p of the result is position p of the window, also where `collate` has padded on the left.
    """
    if template_of(features).padding_side == "right":
        return outputs
    window = np.asarray(outputs.window)
    lengths = features.row_splits[window + 1] - features.row_splits[window]
    values = dict(outputs.values)
    for name, loss in features.meta["losses"].items():
        if loss in PER_TOKEN:
            rows = values[name]
            column = (np.arange(rows.shape[1]) - lengths[:, None]) % rows.shape[1]
            values[name] = np.take_along_axis(rows, column.reshape(*column.shape, *[1] * (rows.ndim - 2)), axis=1)
    return Outputs(outputs.window, values)


@dataclass(frozen=True)
class _Units:
    """What stays together in a batch: single windows, or all windows of an example.

    Args:
        first: int64 [U], first window of each unit.
        size: int64 [U], windows in it.
        length: int64 [U], tokens of its longest window.
    """

    first: NDArray[np.int64]
    size: NDArray[np.int64]
    length: NDArray[np.int64]

    @classmethod
    def of(cls, features: FeatureSet, whole_groups: bool) -> _Units:
        n = len(features)
        if not whole_groups:
            return cls(np.arange(n), np.ones(n, np.int64), features.lengths)
        first = np.flatnonzero(np.diff(features.example_index, prepend=-1))
        return cls(first, np.diff([*first, n]), np.maximum.reduceat(features.lengths, first))

    def per_batch(self, batch_size: int) -> int:
        """Return how many units a batch holds that has so many windows on average, at least 1.

        Not those that are sure to fit: where one example in a thousand has ten times the windows, a step would be
        one example.
        """
        return max(1, batch_size * len(self.size) // int(self.size.sum()))


def n_batches(features: FeatureSet, batch_size: int, *, whole_groups: bool = False) -> int:
    """Return the number of batches of an epoch; the arguments are those of `epoch_batches`."""
    units = _Units.of(features, whole_groups)
    return -(-len(units.first) // units.per_batch(batch_size))


def epoch_batches(
    features: FeatureSet,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    group_by_length: bool = True,
    mega_batch: int = 50,
    whole_groups: bool = False,
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
        whole_groups: keep the windows of each example together; a batch is as many examples as have batch_size
            windows on average, and at least one.

    Returns:
        Window indices, int32 [batch_size] each; the last may be shorter, and with whole_groups all.
    """
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch])))
    units = _Units.of(features, whole_groups)
    n_units = units.per_batch(batch_size)
    order = random.permutation(len(units.first)).astype(np.int32)
    n_full = len(order) // n_units
    # The remainder is cut off before sorting, so that it is a random sample and not the longest windows.
    full, rest = order[: n_full * n_units], order[n_full * n_units :]
    if group_by_length:
        group = np.arange(len(full)) // (mega_batch * n_units)
        full = full[np.lexsort((units.length[full], group))]
    batches = full.reshape(n_full, n_units)
    if group_by_length:
        batches = batches[np.lexsort((random.random(n_full), np.arange(n_full) // mega_batch))]
    ordered = [*batches, rest] if len(rest) else list(batches)
    if not whole_groups:
        return ordered
    return [ranges(units.first[batch], units.size[batch]).astype(np.int32) for batch in ordered]


def split_batch(
    features: FeatureSet, windows: NDArray[np.int32], size: int, *, whole_groups: bool = False
) -> list[NDArray[np.int32]]:
    """Cut a batch into parts of at most `size` windows; of whole examples, whose windows may be more, if so asked."""
    if not whole_groups:
        return [windows[i : i + size] for i in range(0, len(windows), size)]
    parts: list[NDArray[np.int32]] = []
    for example in np.split(windows, np.flatnonzero(np.diff(features.example_index[windows])) + 1):
        if parts and len(parts[-1]) + len(example) <= size:
            parts[-1] = np.concatenate([parts[-1], example])
        else:
            parts.append(example)
    return parts


def eval_batches(features: FeatureSet, batch_size: int) -> list[NDArray[np.int32]]:
    """Return all windows once, shortest first, int32 [batch_size] each; the last may be shorter."""
    order = np.argsort(features.lengths, kind="stable").astype(np.int32)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
