"""What teachers say, as targets of a student's windows: by hand, with tokenizers and windows that differ."""

from __future__ import annotations

import numpy as np
import pytest

from preprocess.batch import collate
from preprocess.tokenizers.base import load_tokenizer
from preprocess.types import NO_TARGET, Answer, Example, Outputs
from tasks.problems.kinds import KindProblem
from tasks.problems.soft_targets import Opinion, kind_names, opinion, soft_targets
from tasks.problems.span import SpanProblem
from tests.support.vocabularies import write_unigram

KINDS = KindProblem({"unknown": "", "yes": "YES", "no": "NO"})
TEXT = "我爱北京。"
#: Of Unigram pieces: ▁, which covers nothing, 我爱 | 北京 | 。
UNIGRAM_SPANS = [(0, 0), (0, 2), (2, 4), (4, 5)]


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wordpiece")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"我爱北京。甲乙丙丁戊己庚辛?"]
    (directory / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    return load_tokenizer(directory)


@pytest.fixture(scope="module")
def unigram(tmp_path_factory):
    return load_tokenizer(write_unigram(tmp_path_factory.mktemp("unigram")))


def encoded(problem, examples, targets, tokenizer, **windows):
    return problem.encode(examples, targets, tokenizer, **{"max_seq_length": 32, "doc_stride": 8, **windows})


def said(*questions):
    """An opinion, given of each question the pieces' spans, probabilities of start and end, null and kinds."""
    splits = np.cumsum([0, *(len(spans) for spans, *_ in questions)])
    with np.errstate(divide="ignore"):
        logits = [np.maximum(np.log(np.array([start, end], np.float32)), -200) for _, start, end, *_ in questions]
        null = [np.maximum(np.log(np.array(rest[0], np.float32)), -200) for *_, rest in questions]
        kinds = [np.maximum(np.log(np.array(rest[1], np.float32)), -200) for *_, rest in questions]
    spans = np.concatenate([np.array(spans, np.int32) for spans, *_ in questions])
    return Opinion(splits, spans, np.concatenate(logits, axis=1), np.array(null), np.array(kinds))


NO_KINDS = ([1e-9, 1e-9], [])


def at(features, column, window=0):
    """What a column has for the pieces of a window, and in front of them for its null position."""
    first = features.row_splits[window]
    pieces = first + features.doc_offset[window]
    own = column[pieces : pieces + features.doc_length[window]]
    return [column[first], *own]


def test_pieces_of_a_teacher_meet_those_of_the_student_at_the_characters(wordpiece, unigram):
    examples, one = [Example("q", "?", TEXT)], np.array([0])
    teacher = said((UNIGRAM_SPANS[1:], [0.3, 0.7, 0], [0.1, 0.6, 0.3], NO_KINDS))
    characters = encoded(SpanProblem(), examples, [None], wordpiece)
    soft = soft_targets(characters, one, [teacher], 1.0, ())
    # 我 爱 北 京 。: what starts with 北京 starts with 北, what ends with it ends with 京.
    assert at(characters, soft["start"]) == pytest.approx([0, 0.3, 0, 0.7, 0, 0], abs=1e-6)
    assert at(characters, soft["end"]) == pytest.approx([0, 0, 0.1, 0, 0.6, 0.3], abs=1e-6)

    teacher = said(([(i, i + 1) for i in range(5)], [0, 0.1, 0.3, 0.6, 0], [0, 0, 0.5, 0.4, 0.1], NO_KINDS))
    pieces = encoded(SpanProblem(), examples, [None], unigram)
    assert pieces.piece_spans.tolist() == [list(span) for span in UNIGRAM_SPANS]
    soft = soft_targets(pieces, one, [teacher], 1.0, ())
    # An edge within 北京 takes the whole piece, as with annotated answers.
    assert at(pieces, soft["start"]) == pytest.approx([0, 0, 0.1, 0.9, 0], abs=1e-6)
    assert at(pieces, soft["end"]) == pytest.approx([0, 0, 0, 0.9, 0.1], abs=1e-6)


def test_teachers_are_averaged_and_a_temperature_evens_out(wordpiece):
    examples, one = [Example("q", "?", "甲乙")], np.array([0])
    spans = [(0, 1), (1, 2)]
    first, second = said((spans, [0.9, 0.1], [0, 1], NO_KINDS)), said((spans, [0.5, 0.5], [0, 1], NO_KINDS))
    features = encoded(SpanProblem(), examples, [None], wordpiece)
    soft = soft_targets(features, one, [first, second], 1.0, ())
    assert at(features, soft["start"]) == pytest.approx([0, 0.7, 0.3], abs=1e-6)
    # Square roots of 0.9 and 0.1 are as 3 to 1.
    soft = soft_targets(features, one, [first], 2.0, ())
    assert at(features, soft["start"]) == pytest.approx([0, 0.75, 0.25], abs=1e-6)


def test_what_a_window_does_not_hold_goes_to_its_null_position(wordpiece):
    text = "甲乙丙丁戊己庚辛"
    examples = [Example("q", "?", text)]
    features = encoded(KINDS, examples, [None], wordpiece, max_seq_length=8, doc_stride=4)
    assert features.doc_length.tolist() == [4, 4]
    spans = [(i, i + 1) for i in range(8)]
    start, end = [0, 0.3, 0, 0, 0.5, 0, 0, 0], [0, 0.1, 0, 0, 0, 0.7, 0, 0]
    teacher = said((spans, start, end, ([0.2, 0.2], [0.5, 0.5, 0])))
    soft = soft_targets(features, np.array([0]), [teacher], 1.0, kind_names(KINDS))
    # The first window has 0.3 of the starts and 0.1 of the ends: as many of the starts end in it.
    assert at(features, soft["start"]) == pytest.approx([0.9, 0, 0.1, 0, 0], abs=1e-6)
    assert at(features, soft["end"]) == pytest.approx([0.9, 0, 0.1, 0, 0], abs=1e-6)
    assert at(features, soft["start"], 1) == pytest.approx([0.5, 0.5, 0, 0, 0], abs=1e-6)
    assert at(features, soft["end"], 1) == pytest.approx([0.5, 0, 0.5, 0, 0], abs=1e-6)
    # 0.2 is as the teacher says, half unknown and half yes; the rest is unknown to this window.
    assert soft["kind"] == pytest.approx(np.array([[0.8, 0.1, 0], [0.4, 0.1, 0]]), abs=1e-6)


def test_sure_teachers_give_the_annotated_targets(wordpiece):
    """In windows that hold an answer, half of it or nothing of it, and for each kind."""
    text = "甲乙丙丁戊己庚辛"
    answers = [Answer("丙丁戊", 2, 5), Answer("YES", kind="yes"), Answer("甲", 0, 1), Answer("", kind="unknown")]
    examples = [Example(f"q{i}", "?", text) for i in range(len(answers))]
    features = encoded(KINDS, examples, answers, wordpiece, max_seq_length=8, doc_stride=2)
    spans, questions = [(i, i + 1) for i in range(8)], []
    for answer in answers:
        starts, ends = (np.eye(8)[i] * answer.located for i in (answer.char_start, answer.char_end - 1))
        null, kinds = float(not answer.located), [float(answer.kind == name) for name in kind_names(KINDS)]
        questions.append((spans, starts, ends, ([null, null], kinds if null else [1.0, 0, 0])))
    soft = soft_targets(features, np.arange(4), [said(*questions)], 1.0, kind_names(KINDS))
    held = features.targets["start"] > 0
    # Of 丙丁戊 the first window holds a half, the second all, the third an end.
    assert features.piece_start[:3].tolist() == [0, 2, 4] and held[:3].tolist() == [False, True, False]
    for name in ("start", "end"):
        hard = np.zeros(len(features.input_ids), np.float32)
        hard[features.row_splits[:-1] + features.targets[name]] = 1
        assert soft[name] == pytest.approx(hard, abs=1e-6)
    kind = features.targets["kind"]
    assert set(kind.tolist()) == {NO_TARGET, 0, 1}
    assert soft["kind"] == pytest.approx(np.eye(3)[kind] * (kind != NO_TARGET)[:, None], abs=1e-6)


def test_a_batch_has_them_where_its_tokens_are(wordpiece):
    from dataclasses import replace

    from preprocess.template import TEMPLATES

    examples = [Example("q", "?", "甲乙"), Example("r", "?", "甲乙丙丁")]
    for name in ("bert", "xlnet"):  # which pads on the left
        features = encoded(SpanProblem(), examples, [None, None], wordpiece, template=TEMPLATES[name])
        column = np.arange(1, len(features.input_ids) + 1, dtype=np.float32)
        batch = collate(replace(features, soft={"start": column, "end": column}), [1, 0])
        real = batch.inputs["attention_mask"] != 0
        first, last = features.row_splits[1], features.row_splits[2]
        assert batch.soft["start"][0][real[0]].tolist() == column[first:last].tolist()
        assert batch.soft["start"][1][real[1]].tolist() == column[:first].tolist()
        assert not batch.soft["end"][~real].any() and (~real).any()


def test_an_opinion_is_what_ensembles_read(wordpiece):
    examples = [Example("q", "?", "甲乙丙丁戊己"), Example("r", "?", "甲乙")]
    features = encoded(KINDS, examples, [None, None], wordpiece, max_seq_length=8, doc_stride=2)
    n, width = len(features), int(features.lengths.max())
    values = {name: np.random.default_rng(1).normal(size=(n, width)).astype(np.float32) for name in ("start", "end")}
    values["kind"] = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    found = opinion(KINDS, 2, features, [Outputs(np.arange(n), values)])
    assert found.splits.tolist() == [0, 6, 8] and found.spans.tolist() == [[i, i + 1] for i in (*range(6), 0, 1)]
    window = n - 1  # the only one of the second question
    offset = features.doc_offset[window]
    assert found.logits[0, 6:].tolist() == values["start"][window, offset : offset + 2].tolist()
    assert found.null[1].tolist() == [values["start"][window, 0], values["end"][window, 0]]
    assert found.kinds[1].tolist() == values["kind"][window].tolist()
