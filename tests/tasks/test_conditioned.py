"""Spans whose ends are read given their starts: windows' targets, the search, and when there is no answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.batch import collate
from preprocess.template import TEMPLATES
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import Answer, Example, Outputs
from tasks.core.discovery import get_task
from tasks.core.prediction import DecodeOptions
from tasks.problems.conditioned import ConditionedProblem
from tasks.squad_v2 import null_odds

PROBLEM = ConditionedProblem({"unknown": ""}, n_starts=2, n_ends=2)
TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, *"甲乙丙丁戊己问"])
CONTEXT = "甲乙丙丁戊己"
OPTIONS = DecodeOptions(n_best_size=20, max_answer_length=50)
#: Position of the first context token, and of "no answer", in a window `context sep question sep cls`.
FIRST, NULL = 0, len(CONTEXT) + 3


def windows(*targets: Answer | None, template: str = "xlnet", **params):
    """Questions about the one context, with these answers."""
    examples = [Example(str(i), "问", CONTEXT, (t,) if t else ()) for i, t in enumerate(targets)]
    params = {"max_seq_length": 32, "doc_stride": 16, **params}
    return examples, PROBLEM.encode(examples, targets, TOKENIZER, template=TEMPLATES[template], **params)


def said(
    starts: dict[int, float], ends: list[dict[int, float]], odds: float = -9.0, window: int = 0, width: int = 12
):
    """One window's values: all that is not named is impossible, all but -99."""
    start, end = np.full((1, width), -99.0, np.float32), np.full((1, width, len(ends)), -99.0, np.float32)
    start[0, list(starts)] = list(starts.values())
    for rank, values in enumerate(ends):
        end[0, list(values), rank] = list(values.values())
    odds_of = np.array([odds], np.float32)
    return Outputs(np.array([window], np.int32), {"start": start, "end": end, "unanswerable": odds_of})


def answers(*outputs: Outputs, options: DecodeOptions = OPTIONS, targets=(None,), **params):
    examples, features = windows(*targets, **params)
    return PROBLEM.decode(examples, features, outputs, options)


def test_windows_are_labelled_with_the_span_or_with_no_answer():
    span = Answer("丙丁", 2, 4)
    _, features = windows(span, None, Answer("", kind="unknown"))
    assert {name: values.tolist() for name, values in features.targets.items()} == {
        "start": [FIRST + 2, NULL, NULL],
        "end": [FIRST + 3, NULL, NULL],
        "unanswerable": [0, 1, 1],
    }
    # As in SQuAD 2.0, a window that does not hold its question's answer is learned from as one without an answer.
    _, cut = windows(span, max_seq_length=7, doc_stride=2)
    assert [cut.targets[name].tolist() for name in ("start", "unanswerable")] == [[6, 0, 5], [1, 0, 1]]
    assert PROBLEM.answered(features).tolist() == [True, False, False]
    # 6 places and that of no answer; and whether there is one.
    assert PROBLEM.chance(features) == pytest.approx(np.log(7) + np.log(2) / 2)


@pytest.mark.parametrize("template", ["xlnet", "bert"])
def test_batches_say_where_an_answer_may_be(template):
    _, features = windows(None, template=template)
    mask = collate(features, np.arange(1)).inputs["answer_mask"][0]
    width, n = len(mask), int(features.lengths[0])
    # Context and cls of `context sep question sep cls`, padded on the left; of `cls question sep context sep`.
    expected = (
        [width - n + i for i in range(6)] + [width - 1] if template == "xlnet" else [0, *range(3, 3 + 6)]
    )  # fmt: skip
    assert np.flatnonzero(mask).tolist() == expected
    # No other problem's batches have it.
    plain = get_task("squad_v2").problem.encode(
        [Example("0", "问", CONTEXT)], [None], TOKENIZER, max_seq_length=32, doc_stride=16
    )
    assert list(collate(plain, np.arange(1)).inputs) == ["input_ids", "attention_mask", "token_type_ids"]


def test_an_end_is_the_end_of_its_own_start():
    """丙 is the best start, and ends at 丁; 甲's ends say nothing of it, however sure they are."""
    found = answers(said({2: 5.0, 0: 4.0}, [{3: 1.0, 4: 0.0}, {0: 9.0, 1: 9.0}]))["0"]
    assert [candidate.text for candidate in found.nbest[:4]] == ["丙丁", "丙丁戊", "甲", "甲乙"]
    assert (found.text, found.char_start, found.char_end, found.kind) == ("丙丁", 2, 4, "span")
    # Of two starts, and of the two ends of 丙, one is e times as likely as the other; those of 甲 are equally likely.
    sure = -np.log(1 + np.exp(-1.0))
    logits = [(found.nbest[rank].start_logit, found.nbest[rank].end_logit) for rank in (0, 2)]
    np.testing.assert_allclose(logits, [(sure, sure), (sure - 1, np.log(0.5))], atol=1e-6)
    assert found.score == pytest.approx(2 * sure, abs=1e-6)


def test_positions_outside_the_context_take_no_part():
    """Of question and separators no probability is lost; the place of "no answer" has its own."""
    wild = {8: 50.0, 6: 60.0}  # the question, the separator behind the context
    with_null = {2: 0.0, NULL: 0.0}
    found = answers(said({**with_null, **wild}, [{3: 0.0, NULL: 0.0, **wild}, {NULL: 1.0}]))["0"]
    assert found.text == "丙丁"
    np.testing.assert_allclose(
        (found.nbest[0].start_logit, found.nbest[0].end_logit), (np.log(0.5), np.log(0.5)), atol=1e-6
    )
    assert all(candidate.text for candidate in found.nbest if candidate.char_start >= 0)


def test_spans_are_as_long_as_allowed_and_forwards():
    outputs = said({2: 1.0, 4: 0.0}, [{1: 3.0, 5: 2.0}, {4: 0.0, 3: 0.0}])
    assert answers(outputs)["0"].text == "丙丁戊己"
    assert answers(outputs, options=replace(OPTIONS, max_answer_length=3))["0"].text == "戊"
    assert answers(said({4: 1.0, 5: 0.0}, [{1: 3.0, 2: 2.0}, {1: 3.0, 2: 2.0}]))["0"].text == ""


def test_no_answer_is_given_by_its_odds_alone():
    """The authors' script compares the odds with a threshold, and no score of a span."""
    sure = said({2: 5.0}, [{3: 1.0}, {}], odds=0.5)
    found = answers(sure)["0"]
    assert (found.text, found.kind) == ("", "unknown")
    # The list has it by the odds: e^0.5 to 1 of the one span.
    assert [candidate.text for candidate in found.nbest[:2]] == ["", "丙丁"]
    assert found.nbest[0].probability / found.nbest[1].probability == pytest.approx(np.exp(0.5), rel=1e-5)
    kept = answers(sure, options=replace(OPTIONS, null_score_diff_threshold=0.6))["0"]
    assert (kept.text, kept.kind) == ("丙丁", "span")
    assert null_odds({"0": kept})["0"] == pytest.approx(0.5, abs=1e-6)


def test_the_least_sure_window_says_whether_there_is_no_answer():
    examples, features = windows(None, max_seq_length=8, doc_stride=2)
    n = len(features)
    assert n > 1
    outputs = [
        said({int(features.doc_offset[i]): 1.0}, [{0: 1.0}, {}], odds=4.0 - i, window=i, width=8) for i in range(n)
    ]
    for beyond, kind in ((0.5, "span"), (-0.5, "unknown")):
        options = replace(OPTIONS, null_score_diff_threshold=4.0 - (n - 1) + beyond)
        found = PROBLEM.decode(examples, features, outputs[::-1], options)["0"]
        assert found.kind == kind
        assert PROBLEM.best_answers(examples, features, outputs, options) == {"0": found.text}


def test_the_threshold_is_tuned_on_the_odds():
    task = replace(get_task("squad_v2"), problem=PROBLEM)
    examples, features = windows(Answer("丙丁", 2, 4), None, Answer("丙丁", 2, 4))
    outputs = [said({2: 5.0}, [{3: 5.0}, {}], odds, i) for i, odds in enumerate([1.0, 3.0, 2.0])]
    options = PROBLEM.tune(examples, features, outputs, OPTIONS, task.scorer(examples))
    assert options.null_score_diff_threshold == 2.5
    texts = PROBLEM.best_answers(examples, features, outputs, options)
    assert list(texts.values()) == ["丙丁", "", "丙丁"]
    assert task.score(examples, texts).values["f1"] == 100.0
    assert {id: p.text for id, p in PROBLEM.decode(examples, features, outputs, options).items()} == texts


def test_what_is_not_finite_or_missing_is_named():
    fine = said({2: 5.0}, [{3: 1.0}, {}])
    for name, where in (("start", "window 0: a logit of position 0"), ("end", "window 0: a logit of position 0")):
        broken = replace(fine, values={**fine.values, name: fine.values[name] * np.nan})
        with pytest.raises(DataError, match=where):
            answers(broken)
    with pytest.raises(DataError, match="window 0: its odds of no answer are not finite"):
        answers(replace(fine, values={**fine.values, "unanswerable": np.array([np.inf], np.float32)}))
    with pytest.raises(DataError, match="window 0 has logits 2 times"):
        answers(fine, fine)
    with pytest.raises(DataError, match="window 1 has logits 0 times"):
        answers(fine, targets=(None, None))


def test_a_window_with_fewer_places_than_beams_is_searched_through():
    wide = ConditionedProblem({"unknown": ""}, n_starts=40, n_ends=40)
    examples, features = windows(None)
    outputs = said({2: 5.0}, [{3: 1.0}] * 10, width=10)
    found = wide.decode(examples, features, [outputs], OPTIONS)["0"]
    assert found.text == "丙丁" and len({candidate.text for candidate in found.nbest}) == len(found.nbest)
