"""Tags: which token learns which, and what comes back is the published text, across windows and odd pieces."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import NO_TARGET, Answer, Example, Outputs
from tasks.core.entities import Entity, read_entities
from tasks.core.prediction import DecodeOptions
from tasks.problems.tagging import MARK, TagProblem

PROBLEM = TagProblem(("PER", "LOC"))
TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, *"张三在北京上海", "new", "york", "##s"])
#: By the numbers of the tags.
OUT, B_PER, I_PER, B_LOC, I_LOC = range(5)


def _example(id, text, *entities):
    return Example(id, "", text, tuple(Answer(text[start:end], start, end, kind) for kind, start, end in entities))


def _encode(*examples, **windows):
    targets = [example.answers if example.labelled else None for example in examples]
    return PROBLEM.encode(examples, targets, TOKENIZER, **{"max_seq_length": 32, **windows})


def _as_learned(features, draw=None, n_tags=5):
    """What a model outputs that has learned all targets; padding and tokens without a target hold anything."""
    width = int(features.lengths.max()) + 2
    order = list(range(len(features)))
    if draw is not None:
        draw.shuffle(order)
    for window in order:
        first, last = features.row_splits[window : window + 2]
        tags = features.targets[MARK][first:last]
        logits = np.full((1, width, n_tags), 3.0, np.float32)
        logits[0, np.flatnonzero(tags >= 0)] = 0.0
        logits[0, np.flatnonzero(tags >= 0), tags[tags >= 0]] = 9.0
        yield Outputs(np.array([window], np.int32), {MARK: logits})


def _decode(examples, features, outputs):
    return PROBLEM.decode(examples, features, outputs, DecodeOptions())


def _entities(example, prediction):
    return {
        (e.type, e.char_start, e.char_end) for e in read_entities(example.id, prediction.text, len(example.context))
    }


def _gold(example):
    return {(answer.kind, answer.char_start, answer.char_end) for answer in example.answers}


def test_each_piece_learns_its_tag_and_special_tokens_nothing():
    features = _encode(_example("a", "张三在北京", ("PER", 0, 2), ("LOC", 3, 5)))
    assert features.targets[MARK].tolist() == [NO_TARGET, B_PER, I_PER, OUT, B_LOC, I_LOC, NO_TARGET]
    assert features.meta["counts"]["target_span"] == 2 and features.meta["counts"]["target_widened"] == 0
    assert PROBLEM.chance(features) == pytest.approx(math.log(5))


def test_texts_without_entities_are_learned_from_and_unlabelled_ones_are_not():
    features = _encode(_example("a", "张三"), Example("b", "", "张三", labelled=False))
    assert features.targets[MARK].tolist() == [NO_TARGET, OUT, OUT, NO_TARGET, *[NO_TARGET] * 4]
    assert features.meta["counts"]["without_target"] == 1


def test_unknown_words_blanks_and_accents_lose_no_entity():
    texts = [
        _example("a", "靺鞨在 New  York 与北京", ("PER", 0, 2), ("LOC", 4, 13), ("LOC", 15, 17)),
        _example("b", "  张三\u200b。", ("PER", 2, 4)),
        _example("c", "北京北京", ("LOC", 0, 2), ("LOC", 2, 4)),
        _example("d", "𫚭Zürich\u3000上海", ("LOC", 0, 7), ("LOC", 8, 10)),
    ]
    features = _encode(*texts)
    found = _decode(texts, features, _as_learned(features))
    for example in texts:
        assert _entities(example, found[example.id]) == _gold(example), example.id
        for candidate in found[example.id].nbest:
            assert candidate.text == example.context[candidate.char_start : candidate.char_end]


def test_an_entity_within_a_piece_takes_all_of_it_and_is_counted():
    example = _example("a", "newyork", ("LOC", 0, 3))
    features = _encode(example)
    assert features.meta["counts"]["target_widened"] == 1
    assert _entities(example, _decode([example], features, _as_learned(features))["a"]) == {("LOC", 0, 7)}
    features = _encode(_example("b", "newyork", ("LOC", 0, 3), ("PER", 3, 7)))
    # One piece can't have two tags: the first entity has it.
    assert features.meta["counts"]["target_sharing_a_piece"] == 1
    assert B_LOC in features.targets[MARK] and B_PER not in features.targets[MARK]
    assert _encode(_example("c", "张  三", ("PER", 1, 3))).meta["counts"]["target_without_piece"] == 1


def test_entities_come_back_across_windows_in_any_order():
    draw = random.Random(4)
    for _ in range(100):
        examples = []
        for number in range(2):
            text = "".join(draw.choices("张三在北京上海靺 ", k=draw.randint(1, 40)))
            edges = sorted(draw.sample(range(len(text) + 1), min(6, (len(text) + 1) // 2 * 2)))
            places = [(s, e) for s, e in zip(edges[::2], edges[1::2], strict=True) if text[s:e].strip() == text[s:e]]
            examples.append(_example(f"{number}", text, *((draw.choice(("PER", "LOC")), s, e) for s, e in places)))
        # The same text twice, annotated differently: each has its own answer.
        examples.append(Example("again", "", examples[0].context, labelled=True))
        features = _encode(*examples, max_seq_length=draw.randint(5, 16), doc_stride=draw.randint(1, 4))
        found = _decode(examples, features, _as_learned(features, draw))
        for example in examples:
            assert _entities(example, found[example.id]) == _gold(example), example
        assert PROBLEM.best_answers(examples, features, _as_learned(features), DecodeOptions()) == {
            id: one.text for id, one in found.items()
        }


def test_a_tag_that_goes_on_with_nothing_begins_an_entity_as_in_the_metric():
    example = _example("a", "张三在")
    features = _encode(example)
    logits = np.zeros((1, 5, 5), np.float32)
    logits[0, [1, 2, 3], [I_PER, I_LOC, OUT]] = 2.0, 4.0, 9.0
    (found,) = _decode([example], features, [Outputs(np.array([0]), {MARK: logits})]).values()
    assert found.text == "PER 0-1 张; LOC 1-2 三"
    first, second = found.nbest
    assert first.probability == pytest.approx(math.exp(2) / (math.exp(2) + 4)) and second.probability > 0.9
    assert (first.text, first.char_start, first.char_end) == ("张", 0, 1)


def test_a_text_without_entities_has_an_empty_answer():
    example = _example("a", "在")
    features = _encode(example)
    (found,) = _decode([example], features, _as_learned(features)).values()
    assert found.text == "" and [candidate.text for candidate in found.nbest] == [""]


def test_values_that_cannot_be_meant_are_refused():
    with pytest.raises(DataError, match="type 'ORG' is not one of PER, LOC"):
        _encode(_example("a", "张三", ("ORG", 0, 1)))
    examples = [_example("a", "张三"), _example("b", "北京")]
    features = _encode(*examples)
    outputs = list(_as_learned(features))
    with pytest.raises(DataError, match="window 1 has logits 0 times"):
        _decode(examples, features, outputs[:1])
    outputs[1].values[MARK][0, 1, 0] = np.inf
    with pytest.raises(DataError, match="window 1: a logit of mark is not finite"):
        _decode(examples, features, outputs)


def test_blanks_that_a_tokenizer_counts_to_a_piece_are_no_part_of_an_entity():
    from tasks.problems.tagging import _without_blanks

    assert _without_blanks("甲 北京 ", Entity("LOC", 1, 5)) == Entity("LOC", 2, 4)
