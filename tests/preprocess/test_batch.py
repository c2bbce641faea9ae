"""Windows -> padded batches, and the order of an epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from preprocess.batch import collate, epoch_batches, eval_batches, n_batches, split_batch
from preprocess.template import BERT, Template
from preprocess.types import FeatureSet
from tests.support.values import span_features


def features_of(lengths: list[int], max_seq_length: int = 40, template: Template = BERT) -> FeatureSet:
    """Windows of the given lengths; window w holds the ids 100 * w + 1, 2, …, its context starts at position 2."""
    n = len(lengths)
    column = np.arange(n, dtype=np.int32)
    ids = [np.arange(1, length + 1) + 100 * w for w, length in enumerate(lengths)]
    return span_features(
        input_ids=np.concatenate(ids).astype(np.uint32),
        row_splits=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        example_index=column,
        doc_offset=np.full(n, 2, np.int32),
        doc_length=np.array(lengths, np.int32) - 3,
        piece_start=column * 0,
        max_context=np.zeros((n, 2), np.int32),
        start=np.full(n, 2, np.int32),
        end=np.full(n, 3, np.int32),
        context_index=column,
        piece_spans=np.zeros((0, 2), np.int32),
        piece_splits=np.zeros(n + 1, np.int64),
        meta={"max_seq_length": max_seq_length, "pad_id": 9, "template": template.as_json()},
    )


def test_right_padding_by_hand() -> None:
    batch = collate(features_of([4, 6]), [1, 0], pad_to_multiple_of=8)
    assert batch.window.tolist() == [1, 0]
    assert batch.inputs["input_ids"].tolist() == [[101, 102, 103, 104, 105, 106, 9, 9], [1, 2, 3, 4, 9, 9, 9, 9]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 0, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0]]
    assert batch.targets["start"].tolist() == [2, 2] and batch.targets["end"].tolist() == [3, 3]
    assert {
        array.dtype for array in (batch.inputs["input_ids"], batch.inputs["attention_mask"], batch.targets["start"])
    } == {np.dtype(np.int32)}


def test_left_padding_moves_the_labels_with_the_text() -> None:
    batch = collate(features_of([4, 6], template=Template(padding_side="left")), [0, 1], pad_to_multiple_of=8)
    assert batch.inputs["input_ids"].tolist() == [[9, 9, 9, 9, 1, 2, 3, 4], [9, 9, 101, 102, 103, 104, 105, 106]]
    assert batch.inputs["attention_mask"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1, 1]]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1]]
    assert batch.targets["start"].tolist() == [6, 4] and batch.targets["end"].tolist() == [7, 5]
    picked = batch.inputs["input_ids"][np.arange(2), batch.targets["start"]]
    assert picked.tolist() == [3, 103]


def test_padding_stops_at_max_seq_length() -> None:
    assert collate(features_of([33, 5]), [0, 1]).inputs["input_ids"].shape == (2, 40)
    assert collate(features_of([40, 5]), [0, 1]).inputs["input_ids"].shape == (2, 40)
    assert collate(features_of([33, 5]), [1]).inputs["input_ids"].shape == (1, 32)
    assert collate(features_of([33, 5], 512), [0, 1]).inputs["input_ids"].shape == (2, 64)
    assert collate(features_of([33, 5]), [0, 1], pad_to_multiple_of=1).inputs["input_ids"].shape == (2, 33)


LENGTHS = np.random.default_rng(1).integers(3, 200, 1003).tolist()


def test_an_epoch_holds_each_window_once_and_one_partial_batch_at_its_end() -> None:
    for group in (True, False):
        batches = epoch_batches(features_of(LENGTHS), 8, seed=3, epoch=0, group_by_length=group, mega_batch=10)
        assert sorted(np.concatenate(batches).tolist()) == list(range(1003))
        assert [len(batch) for batch in batches] == [8] * 125 + [3]
        assert batches[0].dtype == np.int32


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    features = features_of(LENGTHS)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_batches(features, 8, seed=seed, epoch=epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(*key)) for key in [(1, 2), (2, 1), (1, 3), (2, 2)]}) == 4


def test_the_order_is_the_same_on_every_machine() -> None:
    batches = epoch_batches(features_of([3, 4, 5, 6, 7]), 2, seed=123, epoch=0)
    assert [batch.tolist() for batch in batches] == [[0, 1], [3, 4], [2]]


def test_grouping_puts_like_lengths_together_without_sorting_the_epoch() -> None:
    features = features_of(LENGTHS)

    def padding(group: bool) -> float:
        batches = epoch_batches(features, 8, seed=0, epoch=0, group_by_length=group, mega_batch=50)
        padded = sum(len(batch) * features.lengths[batch].max() for batch in batches)
        return 1 - sum(LENGTHS) / padded

    assert padding(True) < 0.1 < padding(False)
    batches = epoch_batches(features, 8, seed=0, epoch=0, mega_batch=50)
    means = np.array([features.lengths[batch].mean() for batch in batches[:50]])
    assert abs(np.corrcoef(means, np.arange(50))[0, 1]) < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_lengths_do_not_follow_the_position_in_the_epoch(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(20, 513, 20_000)
    features = features_of(lengths.tolist())
    batches = epoch_batches(features, 8, seed=seed, epoch=0)
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(len(lengths)))
    means = np.array([features.lengths[batch].mean() for batch in batches])
    # 2500 batches in random order: 1 / sqrt(2500) is one standard deviation.
    assert abs(np.corrcoef(means, np.arange(2500))[0, 1]) < 3 / 50
    # Within batches lengths are alike, but 50 batches together are a sample of all: 142 / sqrt(400) is one deviation.
    groups = means.reshape(50, 50).mean(1)
    assert np.abs(groups - lengths.mean()).max() < 4 * 142 / 20
    assert np.mean([np.ptp(features.lengths[batch]) for batch in batches]) < 20


def test_evaluation_goes_from_short_to_long() -> None:
    batches = eval_batches(features_of([9, 3, 7, 3, 5]), 2)
    assert [batch.tolist() for batch in batches] == [[1, 3], [4, 2], [0]]


def test_a_batch_of_whole_examples_has_its_windows_on_average() -> None:
    # 99 examples of 4 windows and one of 40: no step may be as small as would be sure to hold that one.
    sizes = [4] * 50 + [40] + [4] * 49
    example = np.repeat(np.arange(100), sizes).astype(np.int32)
    features = replace(features_of([5] * len(example)), example_index=example)
    batches = epoch_batches(features, 32, seed=1, epoch=0, whole_groups=True)
    assert len(batches) == n_batches(features, 32, whole_groups=True) == 15
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(example)))
    assert {len(np.unique(example[batch])) for batch in batches} == {7, 2}
    # What does not fit in one forward pass takes several; the long one has its own.
    longest = max(batches, key=len)
    parts = split_batch(features, longest, 32, whole_groups=True)
    assert sorted(map(len, parts)) == [24, 40]
