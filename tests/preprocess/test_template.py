"""Windows, labels, batches and answers follow the template: another order, other segments, padding on the left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.base.errors import DataError
from preprocess.batch import collate, unpadded
from preprocess.cache import cache_key, open_features, write_features
from preprocess.template import BERT, TEMPLATES, Template, null_positions, pretrained_template, template_of
from preprocess.tokenizers.files import TEMPLATES as NAMES
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import Answer, Example, FeatureSet, Outputs
from tasks.core.prediction import DecodeOptions
from tasks.problems.kinds import KindProblem
from tasks.problems.span import SpanProblem
from tests.support.values import encode, span_outputs

PAD, UNK, CLS, SEP = range(4)
LETTERS = "甲乙丙丁戊己问谁"
TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, *LETTERS])
CONTEXT = "甲乙丙丁戊己"  # ids 4 to 9
XLNET, ROBERTA = TEMPLATES["xlnet"], TEMPLATES["roberta"]


def build(template: Template, target: Answer | None = None, question: str = "问谁", **params: Any) -> FeatureSet:
    params = {"max_seq_length": 9, "doc_stride": 2, "template": template, **params}
    return encode([Example("q", question, CONTEXT)], [target], TOKENIZER, **params)


def rows(features: FeatureSet) -> list[list[int]]:
    return [row.tolist() for row in np.split(features.input_ids, features.row_splits[1:-1])]


def test_the_context_may_come_first_and_no_answer_stand_at_the_end() -> None:
    features = build(XLNET, Answer("丁戊", 3, 5))  # 4 pieces of context each
    assert rows(features) == [[4, 5, 6, 7, SEP, 10, 11, SEP, CLS], [6, 7, 8, 9, SEP, 10, 11, SEP, CLS]]
    assert features.doc_offset.tolist() == [0, 0] and null_positions(features).tolist() == [8, 8]
    # The first window does not hold the whole answer.
    assert features.targets["start"].tolist() == [8, 1] and features.targets["end"].tolist() == [8, 2]


def test_a_template_may_have_more_special_tokens() -> None:
    features = build(ROBERTA, Answer("乙", 1, 2))
    assert rows(features)[0] == [CLS, 10, 11, SEP, SEP, 4, 5, 6, SEP]
    assert features.targets["start"].tolist()[:2] == [6, 0]
    with pytest.raises(DataError, match="a question of 2 pieces and 4 special tokens; raise it to 7 or more"):
        build(ROBERTA, max_seq_length=6)


def test_batches_have_the_templates_segments_and_padding() -> None:
    batch = collate(build(XLNET, Answer("乙", 1, 2), max_seq_length=40, question="问"), [0], pad_to_multiple_of=12)
    assert batch.inputs["input_ids"].tolist() == [[PAD, PAD, 4, 5, 6, 7, 8, 9, SEP, 10, SEP, CLS]]
    assert batch.inputs["attention_mask"].tolist() == [[0, 0, *[1] * 10]]
    assert batch.inputs["token_type_ids"].tolist() == [[3, 3, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2]]
    assert batch.targets["start"].tolist() == [3]
    batch = collate(build(ROBERTA), [0], pad_to_multiple_of=10)
    assert not batch.inputs["token_type_ids"].any()


def test_values_of_left_padded_rows_return_to_their_positions() -> None:
    features = build(XLNET, doc_stride=3)  # windows of 9 and 8 tokens
    values = np.arange(20, dtype=np.float32).reshape(2, 10)
    moved = unpadded(features, span_outputs(np.array([1, 0]), values, values))
    assert moved.values["start"][0, :8].tolist() == values[0, 2:].tolist()
    assert moved.values["end"][1, :9].tolist() == values[1, 1:].tolist()
    assert unpadded(build(BERT), moved) is moved


ORDERS = [
    Template(order=("cls", "question", "sep", "context", "sep"), segments=(0, 0, 0, 1, 1), padding_side="left"),
    Template(order=("context", "question", "cls"), segments=(1, 0, 2), padding_segment=1),
    Template(order=("cls", "context"), segments=(0, 0)),
    Template(order=("sep", "context", "sep", "cls", "question", "sep"), segments=(0, 1, 1, 0, 3, 3), null="cls"),
    *TEMPLATES.values(),
]


@pytest.mark.parametrize("template", ORDERS)
def test_windows_of_any_template_are_those_laid_out_one_by_one(template: Template) -> None:
    special = {"cls": [CLS], "sep": [SEP]}
    features = build(template, Answer("丙", 2, 3), max_seq_length=11)
    batch = collate(features, range(len(features)), pad_to_multiple_of=11)
    for window, row in enumerate(rows(features)):
        start = features.piece_start[window]
        own = {"question": [10, 11], "context": list(range(4, 10))[start : start + features.doc_length[window]]}
        parts = [own.get(part) or special[part] for part in template.order]
        assert row == [token for part in parts for token in part]
        segments = [segment for part, segment in zip(parts, template.segments, strict=True) for _ in part]
        padding = [template.padding_segment] * (11 - len(row))
        expected = padding + segments if template.padding_side == "left" else segments + padding
        assert batch.inputs["token_type_ids"][window].tolist() == expected
        # 丙 is id 6, and there is no answer at [CLS].
        assert row[features.targets["start"][window]] == (6 if 6 in row else CLS)
        assert row[null_positions(features)[window]] == CLS
        assert features.doc_length[window] == 0 or row[features.doc_offset[window]] == own["context"][0]


@pytest.mark.parametrize("template", ORDERS)
def test_an_answer_is_found_where_the_template_has_the_context(template: Template) -> None:
    features = build(template, max_seq_length=40)
    batch = collate(features, [0], pad_to_multiple_of=16)
    scores = np.zeros((2, *batch.inputs["input_ids"].shape), np.float32)
    real = batch.inputs["attention_mask"].astype(bool)
    scores[:, ~real] = 99.0  # what stands at padding is never read
    scores[0][batch.inputs["input_ids"] == 6] = scores[1][batch.inputs["input_ids"] == 7] = 5.0
    scores[:, batch.inputs["input_ids"] == CLS] = 3.0
    outputs = unpadded(features, span_outputs(batch.window, *scores))
    examples = [Example("q", "问谁", CONTEXT)]
    predicted = SpanProblem().decode(examples, features, [outputs], DecodeOptions(n_best_size=30))["q"]
    assert (predicted.text, predicted.char_start, predicted.char_end) == ("丙丁", 2, 4)
    # The null score is that of [CLS], wherever it stands.
    problem = KindProblem({"unknown": ""})
    for threshold, text in ((-5.0, ""), (-3.0, "丙丁")):
        options = DecodeOptions(null_score_diff_threshold=threshold)
        assert problem.decode(examples, features, [outputs], options)["q"].text == text
    listed = problem.decode(examples, features, [outputs], DecodeOptions())["q"].nbest
    assert [entry.start_logit for entry in listed if not entry.text] == [3.0]


def test_the_template_travels_with_the_features_and_is_part_of_their_key(tmp_path: Path) -> None:
    features = build(XLNET)
    write_features(tmp_path / "features", features)
    opened = open_features(tmp_path / "features")
    assert template_of(opened) == XLNET and opened.meta == features.meta
    assert Template(**json.loads(json.dumps(XLNET.as_json()))) == XLNET
    examples = [Example("q", "问谁", CONTEXT)]
    keys = {cache_key(SpanProblem(), examples, [None], TOKENIZER, template=template) for template in ORDERS}
    assert len(keys) == len(set(ORDERS))


def test_every_template_that_tokenizer_files_name_exists() -> None:
    assert TEMPLATES.keys() == NAMES.keys()


def test_a_special_token_that_the_tokenizer_lacks_is_named() -> None:
    with pytest.raises(DataError, match="the tokenizer has no 'bos' token, which windows need"):
        build(Template(order=("bos", "context", "cls"), segments=(0, 0, 0)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"segments": (0, 0)},
        {"order": ("cls", "question", "question", "context", "sep")},
        {"order": ("cls", "question", "sep", "question", "sep")},
        {"null": "sep"},
        {"null": "context"},
        {"padding_side": "middle"},
    ],
)
def test_a_template_that_cannot_be_laid_out_is_a_fault_of_its_author(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        Template(**wrong)


def test_outputs_of_whole_windows_are_not_moved() -> None:
    features = build(XLNET)
    features.meta["losses"]["kind"] = "class"
    scores = np.zeros((2, 2, 10), np.float32)
    kind = np.array([[1, 2], [3, 4]], np.float32)
    moved = unpadded(features, Outputs(np.array([0, 1]), {"start": scores[0], "end": scores[1], "kind": kind}))
    assert moved.values["kind"] is kind


def test_special_tokens_stand_as_the_tokenizer_has_them_and_the_rest_is_the_family_s() -> None:
    # A BERT with XLM-R's vocabulary has read `<s> A </s></s> B </s>`, all of token type 0.
    assert pretrained_template("roberta", BERT) == ROBERTA
    # A RoBERTa with BERT's vocabulary has one token type.
    assert pretrained_template("bert", ROBERTA) == Template(segments=(0,) * 5)
    left = Template(order=("cls", "context", "sep"), segments=(0, 0, 1), padding_side="left", padding_segment=1)
    found = pretrained_template("bert", left)
    assert (found.order, found.padding_side, found.padding_segment) == (BERT.order, "left", 1)


def test_a_tokenizer_that_says_nothing_or_has_cls_at_the_other_end_leaves_the_layout_to_the_family() -> None:
    for family in TEMPLATES.values():
        assert pretrained_template(None, family) == pretrained_template("unheard", family) == family
    assert pretrained_template("bert", XLNET) == XLNET and pretrained_template("xlnet", BERT) == BERT
