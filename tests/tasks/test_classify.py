"""Classes: windows, labels and what is decoded, each by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.template import TEMPLATES
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import NO_TARGET, Answer, Example, Outputs
from tasks.core.prediction import DecodeOptions
from tasks.problems.classify import CATEGORY, ClassProblem

TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, *"甲乙丙丁"])
TEXTS, PAIRS = ClassProblem(("no", "yes", "maybe")), ClassProblem(("no", "yes", "maybe"), pair=True)
EXAMPLES = [Example("a", "丁", "甲乙"), Example("b", "丁丁", "甲乙丙丁甲乙丙丁"), Example("c", "", "甲乙")]
TARGETS = [Answer("yes", kind="class"), None, Answer("no", kind="class")]


def _pieces(features):
    pieces = {i: piece for piece, i in TOKENIZER.vocab.items()} if hasattr(TOKENIZER, "vocab") else None
    names = pieces or dict(enumerate([*SPECIAL_TOKENS, *"甲乙丙丁"]))
    rows = zip(features.row_splits, features.row_splits[1:], strict=False)
    return [" ".join(names[i] for i in features.input_ids[start:end].tolist()) for start, end in rows]


def test_a_text_stands_alone_in_its_window_and_what_does_not_fit_is_counted():
    features = TEXTS.encode(EXAMPLES, TARGETS, TOKENIZER, max_seq_length=6, doc_stride=2)
    assert _pieces(features) == ["[CLS] 甲 乙 [SEP]", "[CLS] 甲 乙 丙 丁 [SEP]", "[CLS] 甲 乙 [SEP]"]
    assert features.targets[CATEGORY].tolist() == [1, NO_TARGET, 0]
    counts = features.meta["counts"]
    assert (counts["context_truncated"], counts["target_class"], counts["without_target"]) == (1, 2, 1)


def test_a_pair_stands_in_one_window_with_both_texts():
    features = PAIRS.encode(EXAMPLES, TARGETS, TOKENIZER, max_seq_length=7, max_query_length=1)
    assert _pieces(features)[0] == "[CLS] 丁 [SEP] 甲 乙 [SEP]"
    assert _pieces(features)[1] == "[CLS] 丁 [SEP] 甲 乙 丙 [SEP]"
    assert features.meta["counts"]["query_truncated"] == 1 == features.meta["counts"]["context_truncated"]


@pytest.mark.parametrize(
    ("name", "order", "segments"),
    [
        ("bert", ("cls", "context", "sep"), (0, 0, 0)),
        ("roberta", ("cls", "context", "sep"), (0, 0, 0)),
        ("xlnet", ("context", "sep", "cls"), (0, 0, 2)),
    ],
)
def test_a_template_for_a_text_alone_is_that_of_the_published_classifiers(name, order, segments):
    alone = TEMPLATES[name].alone()
    assert (alone.order, alone.segments, alone.padding_side) == (order, segments, TEMPLATES[name].padding_side)
    assert alone.alone() is alone


def _outputs(logits):
    """Batches in another order than the windows."""
    values = np.array(logits, np.float32)
    order = np.arange(len(values))[::-1].copy()
    return [Outputs(order[:1], {CATEGORY: values[order[:1]]}), Outputs(order[1:], {CATEGORY: values[order[1:]]})]


LOGITS = [[1.0, 3.0, 2.0], [0.0, 0.0, 0.0], [5.0, 1.0, 9.0]]


def _decoded(problem, size=2):
    features = problem.encode(EXAMPLES, TARGETS, TOKENIZER, max_seq_length=12)
    options = DecodeOptions(n_best_size=size)
    best = problem.best_answers(EXAMPLES, features, _outputs(LOGITS), options)
    return problem.decode(EXAMPLES, features, _outputs(LOGITS), options), best


def test_the_best_class_is_the_answer_the_first_of_equals():
    found, best = _decoded(TEXTS)
    assert best == {"a": "yes", "b": "no", "c": "maybe"} == {id: one.text for id, one in found.items()}
    one = found["a"]
    assert [candidate.text for candidate in one.nbest] == ["yes", "maybe"] and one.kind == "class"
    total = sum(math.exp(logit) for logit in LOGITS[0])
    assert one.nbest[0].probability == pytest.approx(math.exp(3) / total) and one.score == 3.0
    assert (one.char_start, one.char_end) == (-1, -1)


def test_where_a_class_is_sought_its_probability_is_the_answer():
    problem = ClassProblem(("no", "yes", "maybe"), sought="maybe")
    found, best = _decoded(problem, size=1)
    assert {id: problem.answer(one) for id, one in found.items()} == best
    assert float(best["b"]) == pytest.approx(1 / 3) and found["a"].text == "yes"
    sure = [_outputs([[0.0, 0.0, 22.0], [0.0, 0.0, 25.0], [0.0, 0.0, 30.0]])] * 2
    features = problem.encode(EXAMPLES, TARGETS, TOKENIZER, max_seq_length=12)
    ranked = [float(text) for text in problem.best_answers(EXAMPLES, features, sure[0], DecodeOptions()).values()]
    assert ranked[0] < ranked[1] < ranked[2] < 1, "what is all but sure is ranked, too"


def test_chance_is_that_of_a_guess():
    features = TEXTS.encode(EXAMPLES, TARGETS, TOKENIZER, max_seq_length=12)
    assert TEXTS.chance(features) == pytest.approx(math.log(3))


def test_values_that_cannot_be_meant_are_refused():
    with pytest.raises(DataError, match="class 'perhaps' is not one of no, yes, maybe"):
        TEXTS.encode(EXAMPLES[:1], [Answer("perhaps", kind="class")], TOKENIZER, max_seq_length=12)
    features = TEXTS.encode(EXAMPLES, TARGETS, TOKENIZER, max_seq_length=12)
    with pytest.raises(DataError, match="window 1: a logit is not finite"):
        TEXTS.decode(EXAMPLES, features, _outputs([[0, 0, 0], [0, math.nan, 0], [0, 0, 0]]), DecodeOptions())
    with pytest.raises(DataError, match="window 2 has logits 0 times"):
        TEXTS.decode(EXAMPLES, features, _outputs(LOGITS[:2]), DecodeOptions())
