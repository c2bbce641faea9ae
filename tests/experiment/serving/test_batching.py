"""Windows of many requests share batches of like length, in turn, and every request gets its own."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from experiment.serving.batching import Batcher, QueueFullError
from preprocess.batch import collate, widened
from preprocess.template import BERT, Template
from preprocess.types import Outputs
from tests.support.values import span_features

LEFT = Template(
    order=("question", "sep", "context", "sep", "cls"),
    segments=(0, 0, 1, 1, 2),
    padding_side="left",
    padding_segment=3,
)


def _features(*lengths, template=BERT):
    n = len(lengths)
    return span_features(
        example_index=np.arange(n), context_index=np.arange(n), start=np.zeros(n), end=np.zeros(n),
        input_ids=np.arange(1, sum(lengths) + 1, dtype=np.uint16), row_splits=np.cumsum([0, *lengths]),
        doc_offset=np.ones(n, np.int32), doc_length=np.array(lengths, np.int32) - 3,
        piece_start=np.zeros(n, np.int32), max_context=np.zeros((n, 2), np.int32),
        piece_spans=np.zeros((n, 2), np.int32), piece_splits=np.arange(n + 1),
        meta={"max_seq_length": 384, "pad_id": 0, "template": template.as_json(), "counts": {}},
    )  # fmt: skip


class Model:
    """Says of a window's tokens what they are, when it may, and remembers the batches."""

    def __init__(self):
        self.batches, self.may = [], threading.Event()
        self.may.set()

    def __call__(self, batches):
        for batch in batches:
            self.may.wait(10)
            ids = batch.inputs["input_ids"]
            self.batches.append(ids.shape)
            yield Outputs(batch.window, {"start": ids.astype(np.float32), "end": -ids.astype(np.float32)})


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def batcher(model):
    made = Batcher(model, batch_size=4, wait_s=0.05, max_waiting=12)
    yield made
    model.may.set()
    made.close()


def _check(features, outputs):
    """Each window comes once, with the tokens that it has, where they stand in it."""
    seen = {}
    for part in outputs:
        for row, window in enumerate(part.window.tolist()):
            first, last = features.row_splits[window : window + 2]
            assert window not in seen
            seen[window] = part.values["start"][row][: last - first].tolist()
            assert seen[window] == features.input_ids[first:last].tolist()
    assert len(seen) == len(features)


def test_windows_of_several_requests_are_computed_together(batcher, model):
    asked = [_features(30), _features(31, 20), _features(32)]
    futures = [batcher.submit(features) for features in asked]
    for features, future in zip(asked, futures, strict=True):
        _check(features, future.result(10))
    assert model.batches == [(4, 32)]


def test_lengths_that_differ_much_are_computed_apart_the_oldest_first(batcher, model):
    asked = [_features(300, 20), _features(40, 310)]
    futures = [batcher.submit(features) for features in asked]
    for features, future in zip(asked, futures, strict=True):
        _check(features, future.result(10))
    assert model.batches == [(1, 32), (1, 64), (2, 320)] or model.batches == [(1, 32), (2, 320), (1, 64)]


def test_a_long_request_lets_others_into_its_batches(batcher, model):
    model.may.clear()
    first = batcher.submit(_features(30))
    while batcher.n_waiting:
        threading.Event().wait(0.01)
    long, short = _features(*[30] * 9), _features(30)
    futures = [batcher.submit(long), batcher.submit(short)]
    model.may.set()
    futures[1].add_done_callback(lambda _: done.append(len(model.batches)))
    done: list[int] = []
    _check(long, futures[0].result(10))
    _check(short, futures[1].result(10))
    assert first.result(10) and done[0] == 2 < len(model.batches) == 4  # in the first batch after the one under way


def test_padding_on_the_left_is_taken_away_again(batcher):
    features = _features(10, 40, template=LEFT)
    other = _features(41, template=LEFT)
    futures = [batcher.submit(features), batcher.submit(other)]
    _check(features, futures[0].result(10))
    _check(other, futures[1].result(10))


@pytest.mark.parametrize("template", [BERT, LEFT])
def test_a_batch_is_widened_as_if_it_had_been_padded_so(template):
    features = _features(10, 20, 50, template=template)
    wide, narrow = collate(features, [0, 1, 2]), collate(features, [0, 1])
    again = widened(features, narrow, 64)
    for name, rows in wide.inputs.items():
        np.testing.assert_array_equal(again.inputs[name], rows[:2], err_msg=name)


def test_more_windows_than_may_wait_are_refused_and_those_given_up_make_room(batcher, model):
    model.may.clear()
    busy = batcher.submit(_features(30))
    while batcher.n_waiting:
        threading.Event().wait(0.01)
    waiting = batcher.submit(_features(*[30] * 10))
    with pytest.raises(QueueFullError, match="10 windows wait already"):
        batcher.submit(_features(30, 30, 30))
    waiting.cancel()
    model.may.set()
    assert busy.result(10)
    with pytest.raises(CancelledError):
        waiting.result(10)
    _check(features := _features(*[30] * 12), batcher.submit(features).result(10))


def test_an_error_goes_to_those_who_wait_for_it_and_nobody_else():
    def fails(batches):
        (batch,) = batches
        if batch.inputs["input_ids"].shape[1] > 32:
            raise ValueError("too long")
        yield Outputs(batch.window, {name: batch.inputs["input_ids"].astype(np.float32) for name in ("start", "end")})

    batcher = Batcher(fails, batch_size=4, wait_s=0, max_waiting=10)
    long, short = batcher.submit(_features(100)), batcher.submit(features := _features(30))
    with pytest.raises(ValueError, match="too long"):
        long.result(10)
    _check(features, short.result(10))
    assert batcher.alive
    batcher.close()
    assert not batcher.alive
    with pytest.raises(QueueFullError, match="ending"):
        batcher.submit(_features(30))


def test_a_batch_that_says_which_tokens_may_answer_is_widened_too():
    """That of an XLNet with the published head of SQuAD 2.0."""
    features = _features(10, 20, 50, template=LEFT)
    features.meta["answer_mask"] = True
    wide, narrow = collate(features, [0, 1, 2]), collate(features, [0, 1])
    assert "answer_mask" in narrow.inputs
    np.testing.assert_array_equal(widened(features, narrow, 64).inputs["answer_mask"], wide.inputs["answer_mask"][:2])
