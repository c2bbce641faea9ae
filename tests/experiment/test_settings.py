"""What a checkpoint was fine-tuned with comes back with it; flags overrule it, and that is said with both values."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from experiment.inputs.model import template_of
from experiment.inputs.settings import (
    FILE_NAME,
    Settings,
    about_tokenizer,
    check_task,
    read_settings,
    recall,
    write_settings,
)
from experiment.options.flags import ExportOptions, PredictOptions, StatsOptions, TrainOptions
from experiment.options.recipe import resolve_recipe
from preprocess.base.errors import UsageError
from preprocess.template import BERT, TEMPLATES
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from pretrained_configs.config import ModelConfig
from tasks.core.discovery import get_task
from tasks.core.task import TaskOptions

WINDOWS = {"max_seq_length": 64, "doc_stride": 32, "doc_overlap": None, "max_query_length": 16}
DECODING = {"n_best_size": 5, "max_answer_length": 9, "null_score_diff_threshold": 1.5}
TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, "a"], do_lower_case=False)


def settings(**changes):
    """Return those of a DRCD model that reads the text as published."""
    values = {"task": "drcd", "version": "2+opencc-none", "options": WINDOWS | DECODING, "precision": "fp32"}
    values |= {"task_options": {"opencc_config": "none", "answer_policy": None, "assignment": None}}
    values |= {"tokenizer": {**TOKENIZER.options, "fingerprint": TOKENIZER.fingerprint}, "template": BERT.as_json()}
    return Settings(**values | changes)


def predict(**given):
    return PredictOptions(task=given.pop("task", "drcd"), model_name_or_path="x", **given)


def test_training_writes_what_predicting_reads(tmp_path):
    options = TrainOptions(task="drcd", opencc_config="none", output_dir=tmp_path, **WINDOWS)
    task = get_task("drcd", TaskOptions(opencc_config="none"))
    write_settings(tmp_path, task, resolve_recipe(options, task, None), DECODING, TOKENIZER, BERT)
    assert read_settings(tmp_path) == settings()


def test_what_is_left_out_is_as_in_the_fine_tuning():
    options, lines = recall(settings(), predict())
    assert {name: getattr(options, name) for name in (*WINDOWS, *DECODING)} == WINDOWS | DECODING
    assert (options.opencc_config, options.do_lower_case, lines) == ("none", False, [])


def test_weights_without_settings_leave_everything_to_the_recipe():
    assert recall(None, predict(max_seq_length=7)) == (predict(max_seq_length=7), [])
    assert about_tokenizer(None, TOKENIZER) == []


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"max_seq_length": 128}, "--max_seq_length 128 overrules the checkpoint's 64"),
        ({"null_score_diff_threshold": 0.0}, "--null_score_diff_threshold 0.0 overrules the checkpoint's 1.5"),
        ({"doc_overlap": 8}, "--doc_overlap 8 overrules the checkpoint's doc_stride 32"),
        ({"opencc_config": "t2s"}, "--opencc_config t2s overrules the checkpoint's none"),
        ({"bf16": True}, "--bf16 overrules the checkpoint's fp32"),
    ],
)
def test_flag_overrules_and_the_line_names_both_values(given, line):
    options, lines = recall(settings(), predict(**given))
    assert lines == [line]
    assert {name: getattr(options, name) for name in given} == given


def test_one_way_to_give_the_stride_leaves_the_other_out():
    """Both together would be refused as a contradiction, of which the user has typed one half."""
    options, _ = recall(settings(), predict(doc_overlap=8))
    assert (options.doc_overlap, options.doc_stride) == (8, None)
    trained = settings(options={**WINDOWS, **DECODING, "doc_stride": None, "doc_overlap": 8})
    options, lines = recall(trained, predict(doc_stride=32))
    assert (options.doc_overlap, options.doc_stride) == (None, 32)
    assert lines == ["--doc_stride 32 overrules the checkpoint's doc_overlap 8"]


def test_flag_that_says_the_same_is_nothing_to_report():
    assert recall(settings(), predict(max_seq_length=64, doc_stride=32, opencc_config="none"))[1] == []
    default = settings(version=get_task("drcd").version, task_options={"opencc_config": None, "answer_policy": None})
    assert recall(default, predict(opencc_config="t2s"))[1] == []
    assert recall(default, predict(opencc_config="none"))[1] == [
        "--opencc_config none overrules the checkpoint's default of the task"
    ]


def test_other_version_of_the_task_is_said():
    _, (line,) = recall(settings(version="0+opencc-none"), predict())
    assert "version 0+opencc-none of task drcd, which is version 2+opencc-none here" in line


def test_other_task_is_said_and_reads_its_own_text_in_the_windows_of_the_fine_tuning():
    options, (line,) = recall(settings(), predict(task="xquad_zh"))
    assert "fine-tuned for task drcd; for xquad_zh its windows" in line
    assert (options.max_seq_length, options.opencc_config) == (64, None)


def test_older_file_works_with_a_line_and_its_version_is_held_against_the_tasks(tmp_path):
    """Before, a DRCD model of published text answered on converted text, without a word."""
    old = {"task": "drcd", "version": "2+opencc-none", "options": WINDOWS | DECODING}
    (tmp_path / FILE_NAME).write_text(json.dumps(old))
    found = read_settings(tmp_path)
    options, lines = recall(found, predict())
    assert options.max_seq_length == 64 and len(lines) == 2
    assert f"{FILE_NAME} of the checkpoint is of an older version" in lines[0]
    assert f"version 2+opencc-none of task drcd, which is version {get_task('drcd').version} here" in lines[1]
    assert lines[1].endswith("; give --opencc_config as in the fine-tuning")
    assert recall(found, predict(opencc_config="none"))[1] == lines[:1]
    assert about_tokenizer(found, TOKENIZER) == []


def test_half_precision_of_the_fine_tuning_is_said_and_not_imposed():
    options, lines = recall(settings(precision="bf16"), predict())
    assert not options.bf16
    assert lines == ["the checkpoint was fine-tuned in bf16 and computes in fp32 here; --bf16 is as in training"]
    assert recall(settings(precision="bf16"), predict(bf16=True))[1] == []


def test_other_tokenizer_is_said():
    assert about_tokenizer(settings(), TOKENIZER) == []
    lower = WordPieceTokenizer(TOKENIZER.vocab, do_lower_case=True)
    assert about_tokenizer(settings(), lower) == ["the checkpoint was fine-tuned with do_lower_case False, here True"]
    other = WordPieceTokenizer({**TOKENIZER.vocab, "b": 5}, do_lower_case=False)
    assert about_tokenizer(settings(), other) == [
        "the checkpoint was fine-tuned with another vocabulary than that used here"
    ]


def test_tokenizer_that_is_named_has_its_own_casing():
    assert recall(settings(), predict(tokenizer_name="other"))[0].do_lower_case is None


def test_commands_with_fewer_options_take_what_they_have(tmp_path):
    options, lines = recall(settings(), ExportOptions(model_name_or_path="x", output=tmp_path))
    assert (options.do_lower_case, lines) == (False, [])
    stats = StatsOptions(task="drcd", data_file=tmp_path, tokenizer_name="x")
    options, lines = recall(settings(), stats, but=("max_seq_length",))
    assert (options.max_query_length, options.opencc_config, lines) == (16, "none", [])
    assert options.max_seq_length == stats.max_seq_length  # a list of lengths to compare


def test_head_of_another_task_is_refused_and_names_both():
    check_task(settings(), get_task("drcd"), "x")
    check_task(settings(), get_task("cmrc2018"), "x")  # spans, too
    check_task(settings(task="gone"), get_task("cjrc"), "x")  # its weights will show whether it fits
    with pytest.raises(UsageError, match="x: fine-tuned for task cjrc, .* of drcd; give --task cjrc"):
        check_task(replace(settings(), task="cjrc"), get_task("drcd"), "x")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"task": "drcd"}', '{"task": "drcd", "version": "1", "options": []}']
    + ['{"task": "drcd", "version": "1", "options": {"doc_stride": "32"}}']
    + ['{"task": "drcd", "version": "1", "options": {}, "task_options": [1]}'],
)
def test_damaged_file_is_one_line_that_says_what_to_do(text, tmp_path):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(UsageError, match=f"{FILE_NAME}: .*; delete it"):
        read_settings(tmp_path)


def test_keys_of_a_later_version_are_passed_over(tmp_path):
    (tmp_path / FILE_NAME).write_text(json.dumps({**asdict(settings()), "invented": 1}))
    assert read_settings(tmp_path) == settings()


def test_windows_are_laid_out_as_in_the_fine_tuning_wherever_the_tokenizer_is_from():
    config = ModelConfig(20, 8, 1, 2, 16, max_position_embeddings=32)
    assert template_of(config, TOKENIZER) == BERT
    assert template_of(config, TOKENIZER, settings()) == BERT
    assert template_of(config, TOKENIZER, settings(template=TEMPLATES["xlnet"].as_json())) == TEMPLATES["xlnet"]
    # Files of an older version do not say it.
    assert template_of(config, TOKENIZER, settings(template={})) == BERT


@pytest.mark.parametrize("template", [{"order": ["cls"]}, {"unheard": 1}, "bert"])
def test_a_damaged_template_is_one_clear_line(tmp_path, template):
    (tmp_path / "mrc_settings.json").write_text(json.dumps(asdict(settings(template=template))), "utf-8")
    with pytest.raises(UsageError, match="not a settings file of this toolkit"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"options": {"max_seq_length": 112.5}}, "max_seq_length 112.5: a whole number was expected"),
        ({"options": {"max_seq_length": True}}, "max_seq_length True: a whole number was expected"),
        ({"options": {"doc_stride": -1}}, "doc_stride -1: must be at least 1"),
        ({"options": {"null_score_diff_threshold": "high"}}, "null_score_diff_threshold high: a number was expected"),
        ({"options": [64]}, "mapping"),
        ({"task": ["drcd"]}, "found a list of 1"),
        ({"task": None}, "a text was expected, found nothing"),
        ({"version": 1}, "a text was expected, found the number 1"),
        ({"task_options": {"answer_policy": "best"}}, "answer_policy best: one of first, majority, all was expected"),
        ({"task_options": {"opencc_config": {}}}, "found an empty object"),
        ({"tokenizer": {"do_lower_case": "maybe"}}, "do_lower_case maybe: true or false was expected"),
    ],
)
def test_file_that_was_edited_to_what_no_flag_could_say_is_refused(changes, said, tmp_path):
    (tmp_path / FILE_NAME).write_text(json.dumps(asdict(settings()) | changes))
    with pytest.raises(UsageError, match="not a settings file of this toolkit") as caught:
        read_settings(tmp_path)
    assert said in str(caught.value)
