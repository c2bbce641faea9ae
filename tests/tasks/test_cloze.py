"""Blanks and candidates -> windows around the blanks -> answers, one by one or all of a passage together."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.template import TEMPLATES
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import Answer, Example, FeatureSet, Outputs
from tasks.core.prediction import DecodeOptions
from tasks.problems.cloze import ClozeProblem

LETTERS = "甲乙丙丁戊己庚辛"
TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, "[MASK]", *LETTERS, ".", "ab", "##c"])
BLANK = r"\[BLANK(\d+)\]"
PROBLEM = ClozeProblem(BLANK)
TOGETHER = replace(PROBLEM, one_to_one=True)
TEXT = "甲乙[BLANK1]丙丁abc[BLANK2]"


def _blank(number: int, context: str = TEXT, options: tuple[str, ...] = ("戊", "己己"), group: str = "p") -> Example:
    return Example(f"{group}-{number}", f"[BLANK{number}]", context, (Answer(options[0]),), group, options=options)


def _encode(*examples: Example, problem: ClozeProblem = PROBLEM, **windows: Any) -> FeatureSet:
    return problem.encode(examples, [example.answers[0] for example in examples], TOKENIZER, **windows)


def _texts(features: FeatureSet) -> list[str]:
    tokens = TOKENIZER.tokens
    return ["".join(tokens[i] for i in row) for row in np.split(features.input_ids, features.row_splits[1:-1])]


def test_the_blank_that_is_asked_about_is_masked_and_the_others_are_dots() -> None:
    features = _encode(_blank(1), _blank(2), max_seq_length=32)
    assert _texts(features) == [
        "[CLS]戊[SEP]甲乙[MASK]丙丁ab##c...[SEP]",
        "[CLS]己己[SEP]甲乙[MASK]丙丁ab##c...[SEP]",
        "[CLS]戊[SEP]甲乙...丙丁ab##c[MASK][SEP]",
        "[CLS]己己[SEP]甲乙...丙丁ab##c[MASK][SEP]",
    ]
    assert features.targets["option"].tolist() == [1, 0, 1, 0]
    # The places of the pieces in the text, of which the gap is one.
    first = features.piece_spans[: features.piece_splits[1]].tolist()
    assert first == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 7], [7, 8], [8, 9], [9, 10], [10, 11]]


@pytest.mark.parametrize(
    ("context", "window"),
    [
        ("甲乙丙丁[BLANK1]戊己庚辛", "丙丁[MASK]戊己"),
        ("[BLANK1]戊己庚辛甲", "[MASK]戊己庚辛"),
        ("甲乙丙丁戊[BLANK1]", "乙丙丁戊[MASK]"),
        ("甲[BLANK1]乙", "甲[MASK]乙"),
        ("[BLANK1]", "[MASK]"),
    ],
)
def test_a_window_lies_around_its_blank(context: str, window: str) -> None:
    features = _encode(_blank(1, context, ("戊",)), max_seq_length=9)
    assert _texts(features) == [f"[CLS]戊[SEP]{window}[SEP]"]


def test_other_templates_and_tokenizers_show_the_blank_too() -> None:
    xlnet = WordPieceTokenizer([*SPECIAL_TOKENS, *LETTERS, "."])  # without a mask token
    features = PROBLEM.encode([_blank(1)], [None], xlnet, max_seq_length=32, template=TEMPLATES["xlnet"])
    tokens = "".join(xlnet.tokens[i] for i in features.input_ids[: features.row_splits[1]])
    assert tokens == "甲乙[UNK]丙丁[UNK]...[SEP]戊[SEP][CLS]"


def test_a_blank_has_to_be_in_its_context_once() -> None:
    for context, found in (("甲[BLANK2]", "not there"), ("[BLANK1][BLANK1]", "2 times")):
        message = rf"question 'p-1': the blank '\[BLANK1\]' is expected once in its context, found {found}"
        with pytest.raises(DataError, match=message):
            _encode(_blank(1, context))


def _scored(examples: list[Example], scores: list[list[float]]) -> tuple[FeatureSet, list[Outputs]]:
    """Windows of some blanks, and outputs that score their distinct candidates."""
    features = PROBLEM.encode(examples, [None] * len(examples), TOKENIZER, max_seq_length=32)
    values = np.array([value for row in scores for value in row], np.float32)
    return features, [Outputs(np.arange(len(values)), {"option": values})]


def test_one_by_one_each_blank_gets_its_best_and_together_no_candidate_comes_twice() -> None:
    options = ("戊", "己", "庚")
    blanks = [_blank(n, options=options) for n in (1, 2)] + [_blank(1, options=options, group="q")]
    features, outputs = _scored(blanks, [[3.0, 2.5, 0.0], [3.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    alone = PROBLEM.decode(blanks, features, outputs, DecodeOptions())
    assert {id: one.text for id, one in alone.items()} == {"p-1": "戊", "p-2": "戊", "q-1": "戊"}
    found = TOGETHER.decode(blanks, features, outputs, DecodeOptions(n_best_size=1))
    # Another passage may use it again.
    assert {id: one.text for id, one in found.items()} == {"p-1": "己", "p-2": "戊", "q-1": "戊"}
    assert TOGETHER.best_answers(blanks, features, outputs, DecodeOptions()) == {
        id: one.text for id, one in found.items()
    }
    # The answer is in the list, however short, with its own score and probability.
    best = found["p-1"]
    assert [c.text for c in best.nbest] == ["己"] and best.score == 2.5 and 0.3 < best.nbest[0].probability < 0.4
    # The windows are the same: they are cached under one name, and trained alike.
    assert TOGETHER.name == PROBLEM.name and TOGETHER.head == PROBLEM.head


def test_more_blanks_than_candidates_share_them() -> None:
    blanks = [_blank(n, options=("戊",)) for n in (1, 2)]
    features, outputs = _scored(blanks, [[1.0], [1.0]])
    assert TOGETHER.best_answers(blanks, features, outputs, DecodeOptions()) == {"p-1": "戊", "p-2": "戊"}


def test_together_is_the_likeliest_of_all_assignments() -> None:
    draw = random.Random(0)
    for case in range(200):
        n = draw.randint(1, 2)
        options = tuple(draw.choices("戊己庚辛", k=draw.randint(n, 4)))  # also equal ones
        blanks = [_blank(number, options=options) for number in range(1, n + 1)]
        texts = list(dict.fromkeys(options))
        scores = [[draw.gauss(0, 2) for _ in texts] for _ in blanks]
        features, outputs = _scored(blanks, scores)
        found = TOGETHER.best_answers(blanks, features, outputs, DecodeOptions())

        def total(chosen: tuple[str, ...], scores: list[list[float]] = scores, texts: list[str] = texts) -> float:
            return sum(row[texts.index(text)] for row, text in zip(scores, chosen, strict=True))

        best = max(map(total, itertools.permutations(options, n)))
        assert total(tuple(found.values())) == pytest.approx(best, abs=1e-5), case
