"""Which windows each step takes: the same for the same seed, from whatever step on, from one source or several."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from experiment.inputs.data import Data
from experiment.options.joint import Sampling
from experiment.training.mixture import Mixture, Source
from experiment.training.steps import Steps
from preprocess.batch import epoch_batches
from preprocess.types import FeatureSet
from tasks.core.discovery import get_task

#: The first epoch of eleven windows by twos under seed 3: another order would be other numbers than were published.
EXPECTED = [[0, 1], [2, 9], [10, 8], [4, 7], [3, 5], [6]]


def _source(n, seed=0):
    lengths = np.random.RandomState(seed).randint(5, 30, n)
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    columns = {name: np.zeros(0, np.int32) for name in FeatureSet.columns()}
    columns |= {"row_splits": splits, "example_index": np.arange(n, dtype=np.int32)}
    return Source(get_task("cmrc2018"), Data([], FeatureSet(**columns, targets={}, meta={})))


def _windows(steps, n_done=0):
    return [draw.windows.tolist() for draw in steps.draws(n_done)]


@pytest.mark.parametrize(("n", "epochs", "size"), [(10, 2.0, 2), (11, 2.4, 2), (11, 0.4, 2), (23, 1.5, 6)])
def test_order_can_be_entered_at_any_step(n, epochs, size):
    mixture = Mixture((_source(n),), size, seed=3)
    steps = Steps(mixture, epochs, 1.0)
    whole = _windows(steps)
    assert len(whole) == steps.n
    ungrouped = Steps(dataclasses.replace(mixture, group_by_length=False), epochs, 1.0)
    assert _windows(ungrouped) != whole
    if epochs >= 1:
        assert sorted(sum(whole[: steps.per_epoch], [])) == list(range(n))
    for n_done in range(steps.n + 1):
        assert _windows(steps, n_done) == whole[n_done:]


def test_a_mixture_of_one_is_the_epochs_of_its_source():
    source = _source(11)
    expected = [
        windows.tolist()
        for epoch in range(2)
        for windows in epoch_batches(source.data.features, 2, seed=3, epoch=epoch)
    ]
    assert _windows(Steps(Mixture((source,), 2, seed=3), 2.0, 1.0)) == expected
    assert expected[:6] == EXPECTED


def _drawn(steps, n_done=0):
    sources = steps.mixture.sources
    return [(sources.index(draw.source), draw.windows.tolist()) for draw in steps.draws(n_done)]


@pytest.fixture
def several():
    return Mixture((_source(11), _source(4, seed=1), _source(21, seed=2)), 2, seed=3)


def test_sources_take_turns_by_their_size_and_each_is_seen_once_per_epoch(several):
    steps = Steps(several, 2.0, 1.0)
    drawn = _drawn(steps)
    assert steps.per_epoch == 6 + 2 + 11 and len(drawn) == 38
    for epoch in (drawn[:19], drawn[19:]):
        for i, n in enumerate((11, 4, 21)):
            assert sorted(sum((windows for source, windows in epoch if source == i), [])) == list(range(n))
    turns = [[source for source, _ in epoch] for epoch in (drawn[:19], drawn[19:])]
    assert turns[0] != turns[1] and turns[0] != sorted(turns[0])


def test_several_sources_can_be_entered_at_any_step_and_follow_the_seed(several):
    steps = Steps(several, 2.5, 1.0)
    whole = _drawn(steps)
    assert _drawn(Steps(dataclasses.replace(several), 2.5, 1.0)) == whole
    for n_done in range(steps.n + 1):
        assert _drawn(steps, n_done) == whole[n_done:]
    other = _drawn(Steps(dataclasses.replace(several, seed=4), 2.5, 1.0))
    assert [source for source, _ in other] != [source for source, _ in whole]


def test_each_source_comes_in_the_order_in_which_it_comes_alone(several):
    drawn = _drawn(Steps(several, 2.0, 1.0))
    for i, source in enumerate(several.sources):
        alone = _windows(Steps(Mixture((source,), 2, seed=3), 2.0, 1.0))
        assert [windows for turn, windows in drawn if turn == i] == alone


@pytest.mark.parametrize(
    ("sampling", "n_steps", "turns"),
    [
        (Sampling(), [7, 5, 1], [7, 5, 1]),
        (Sampling(0.0), [100, 10, 1], [37, 37, 37]),
        (Sampling(0.5), [100, 25, 1], [79, 39, 8]),  # 10 : 5 : 1 of 126
        (Sampling(weights={"a": 1.0, "b": 2.0}), [20, 10], [10, 20]),
        (Sampling(weights={"a": 1.0, "b": 1000.0, "c": 1.0}), [3, 1, 1], [1, 3, 1]),  # no task is left out
        (Sampling(weights={"a": 1.0, "b": 1000.0}), [1, 1], [1, 1]),
    ],
)
def test_an_epoch_is_divided_into_turns_by_the_shares_that_were_asked_for(sampling, n_steps, turns):
    assert sampling.turns(n_steps) == turns


@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(0.5), Sampling(weights={"a": 1.0, "b": 6.0, "c": 1.0})])
def test_with_other_shares_each_source_keeps_its_order_and_any_step_can_be_entered(several, sampling):
    mixture = dataclasses.replace(several, sampling=sampling)
    steps = Steps(mixture, 3.0, 1.0)
    whole = _drawn(steps)
    assert steps.per_epoch == 19 and len(whole) == 57
    for i, (source, n) in enumerate(zip(mixture.sources, sampling.turns([6, 2, 11]), strict=True)):
        drawn = [windows for turn, windows in whole if turn == i]
        assert len(drawn) == 3 * n
        assert drawn == _windows(Steps(Mixture((source,), 2, seed=3), 100.0, 1.0))[: 3 * n]
    for n_done in range(0, len(whole), 5):
        assert _drawn(steps, n_done) == whole[n_done:]
