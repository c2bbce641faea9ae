"""Questions with options -> a window of each -> the best one, however many windows an option is read in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import NO_TARGET, Answer, Example, FeatureSet, Outputs
from tasks.core.prediction import DecodeOptions
from tasks.problems.multiple_choice import ChoiceProblem

LETTERS = "甲乙丙丁戊己庚辛问谁"
TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, *LETTERS])
PROBLEM = ChoiceProblem()
TWO = Example("a", "问谁", "甲乙丙丁戊", (Answer("己", kind="option"),), options=("庚", "己"))
#: Equal options are one.
THREE = Example("b", "谁", "甲乙", (Answer("庚", kind="option"),), options=("庚", "辛", "庚", "己庚"))


def _encode(*examples: Example, **windows: Any) -> FeatureSet:
    return PROBLEM.encode(examples, [e.answers[0] if e.answers else None for e in examples], TOKENIZER, **windows)


def _texts(features: FeatureSet) -> list[str]:
    tokens = TOKENIZER.tokens
    return ["".join(tokens[i] for i in row) for row in np.split(features.input_ids, features.row_splits[1:-1])]


def _outputs(*values: float) -> list[Outputs]:
    """Two batches, the last windows first."""
    window = np.arange(len(values))
    scores = np.array(values, np.float32)
    return [Outputs(part, {"option": scores[part]}) for part in (window[1:][::-1], window[:1])]


def test_each_distinct_option_is_read_with_the_question_beside_the_context() -> None:
    features = _encode(TWO, THREE, max_seq_length=32)
    assert _texts(features) == [
        "[CLS]问谁庚[SEP]甲乙丙丁戊[SEP]",
        "[CLS]问谁己[SEP]甲乙丙丁戊[SEP]",
        "[CLS]谁庚[SEP]甲乙[SEP]",
        "[CLS]谁辛[SEP]甲乙[SEP]",
        "[CLS]谁己庚[SEP]甲乙[SEP]",
    ]
    assert features.targets["option"].tolist() == [0, 1, 1, 0, 0]
    assert features.example_index.tolist() == [0, 0, 1, 1, 1] and features.option_index.tolist() == [0, 1, 0, 1, 2]
    assert PROBLEM.chance(features) == pytest.approx((math.log(2) + math.log(3)) / 2)
    counts = features.meta["counts"]
    assert (counts["target_option"], counts["without_target"], counts["query_truncated"]) == (2, 0, 0)


def test_further_windows_of_an_option_say_so_and_the_best_one_counts() -> None:
    features = _encode(TWO, THREE, max_seq_length=9, doc_stride=2)
    assert _texts(features)[:4] == [
        "[CLS]问谁庚[SEP]甲乙丙[SEP]",
        "[CLS]问谁庚[SEP]丙丁戊[SEP]",
        "[CLS]问谁己[SEP]甲乙丙[SEP]",
        "[CLS]问谁己[SEP]丙丁戊[SEP]",
    ]
    assert features.targets["option"].tolist() == [0, NO_TARGET, 1, NO_TARGET, 1, 0, 0]
    # 庚: 1 and 1.5, whose sum and mean are larger; 己: -9 and 2, the best window of all.
    outputs = _outputs(1.0, 1.5, -9.0, 2.0, 0.25, 0.5, 0.25)
    found = PROBLEM.decode((TWO, THREE), features, outputs, DecodeOptions())
    assert {id: one.text for id, one in found.items()} == {"a": "己", "b": "辛"}
    assert PROBLEM.best_answers((TWO, THREE), features, outputs, DecodeOptions()) == {"a": "己", "b": "辛"}
    best = found["a"]
    assert (best.kind, best.char_start, best.char_end, best.score) == ("option", -1, -1, 2.0)
    assert [(c.text, c.start_logit) for c in best.nbest] == [("己", 2.0), ("庚", 1.5)]
    assert best.nbest[0].probability == pytest.approx(1 / (1 + math.exp(-0.5)))
    # Of equal scores the first option is the answer, and the list is as long as was asked for.
    shorter = PROBLEM.decode((TWO, THREE), features, _outputs(*[0.0] * 7), DecodeOptions(n_best_size=1))
    assert [(one.text, len(one.nbest)) for one in shorter.values()] == [("庚", 1), ("庚", 1)]


def test_a_question_that_is_too_long_loses_its_beginning_and_keeps_its_option() -> None:
    long = Example("c", "甲乙丙问谁", "丁", options=("己庚", "辛"))
    features = _encode(long, TWO, max_seq_length=16, max_query_length=4)
    assert _texts(features)[:2] == ["[CLS]问谁己庚[SEP]丁[SEP]", "[CLS]丙问谁辛[SEP]丁[SEP]"]
    assert features.meta["counts"]["query_truncated"] == 1
    only = _encode(Example("d", "问谁", "丁", options=("己庚辛", "甲乙")), max_seq_length=16, max_query_length=2)
    assert _texts(only) == ["[CLS]己庚[SEP]丁[SEP]", "[CLS]甲乙[SEP]丁[SEP]"]


def test_an_unlabelled_question_has_windows_and_no_right_one() -> None:
    features = _encode(Example("u", "谁", "甲", options=("乙", "丙")), max_seq_length=16)
    assert features.targets["option"].tolist() == [0, 0]
    assert PROBLEM.head.outputs[0].n_targets(features.targets["option"]) == 0


def test_what_is_no_question_with_options_is_refused() -> None:
    with pytest.raises(DataError, match="question 'x' has no options to choose from"):
        _encode(Example("x", "谁", "甲"))
    with pytest.raises(DataError, match="question 'a': the answer '丁' is none of its options"):
        PROBLEM.encode([TWO], [Answer("丁")], TOKENIZER)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda: _outputs(1.0, math.nan), "window 1: a logit is not finite: the model has diverged"),
        (lambda: _outputs(1.0, 2.0)[:1], "window 0 has logits 0 times"),
        (lambda: [*_outputs(1.0, 2.0), _outputs(1.0, 2.0)[1]], "window 0 has logits 2 times"),
    ],
)
def test_outputs_that_cant_be_trusted_are_refused(outputs: Any, message: str) -> None:
    features = _encode(TWO, max_seq_length=32)
    for answer in (PROBLEM.decode, PROBLEM.best_answers):
        with pytest.raises(DataError, match=message):
            answer([TWO], features, outputs(), DecodeOptions())
