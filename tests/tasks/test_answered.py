"""Which windows hold an answer to learn, and which are learned to hold none."""

from __future__ import annotations

import numpy as np

from preprocess.types import NO_TARGET
from tasks.core.discovery import get_task
from tasks.problems.kinds import KindProblem
from tasks.problems.span import SpanProblem
from tests.support.values import span_features

#: Four windows of `[CLS] ? [SEP]` and three pieces of context each; the third is labelled with no answer.
_COLUMNS = {
    "input_ids": np.zeros(28, np.uint16),
    "row_splits": np.arange(0, 29, 7),
    "example_index": np.arange(4),
    "context_index": np.arange(4),
    "doc_offset": np.full(4, 3, np.int32),
    "doc_length": np.full(4, 3, np.int32),
    "piece_start": np.zeros(4, np.int32),
    "max_context": np.tile(np.array([0, 3], np.int32), (4, 1)),
    "piece_spans": np.zeros((12, 2), np.int32),
    "piece_splits": np.arange(0, 13, 3),
    "meta": {},
}


def _features(head, start, **targets):
    features = span_features(**_COLUMNS, start=start, end=start)
    targets = {name: np.array(values, np.int8) for name, values in targets.items()}
    return features.with_targets(head, {**features.targets, **targets}, {})


def test_a_window_holds_an_answer_if_its_span_lies_in_the_context():
    features = _features(SpanProblem.head, [3, 5, 0, 4])
    assert SpanProblem().answered(features).tolist() == [True, True, False, True]
    # Where no answer stands behind the context, as some templates have it.
    features = _features(SpanProblem.head, [3, 5, 6, 4])
    assert SpanProblem().answered(features).tolist() == [True, True, False, True]


def test_unanswerable_questions_hold_none():
    problem = get_task("squad_v2").problem
    assert isinstance(problem, KindProblem)
    assert problem.answered(_features(problem.head, [3, 0, 0, 4])).tolist() == [True, False, False, True]


def test_yes_and_no_are_answers_and_unknown_is_none():
    problem = get_task("cjrc").problem
    kinds = list(problem.texts)
    kind = [NO_TARGET, kinds.index("yes"), kinds.index("unknown"), kinds.index("no")]
    features = _features(problem.head, [4, 0, 0, 0], kind=kind)
    assert problem.answered(features).tolist() == [True, True, False, True]
