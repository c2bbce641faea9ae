"""What was typed, the published recipe and the task's become one recipe without gaps."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from experiment.options.flags import ParityOptions, PlanOptions, PredictOptions, TrainOptions
from experiment.options.recipe import Recipe, Stride, TrainRecipe, recipe_defaults, resolve_recipe
from preprocess.base.errors import UsageError
from pretrained_configs.catalog import lookup
from tasks.core.discovery import get_task
from tasks.core.prediction import DecodeOptions

TASK = get_task("cmrc2018")
TRAIN = TrainOptions(task="cmrc2018", output_dir=Path("run"))


def _resolved(published=None, **typed) -> TrainRecipe:
    return resolve_recipe(replace(TRAIN, **typed), TASK, published)


@pytest.mark.parametrize("kind", [TrainOptions, PlanOptions, ParityOptions, PredictOptions])
def test_nothing_in_a_recipe_is_none(kind):
    options = TRAIN if kind is TrainOptions else kind(task="cmrc2018", model_name_or_path="x")
    recipe = resolve_recipe(options, TASK, None)
    empty = {field.name for field in fields(recipe) if getattr(recipe, field.name) is None}
    assert empty <= {"jit_compile"}  # which the backend alone can decide


def test_what_has_a_flag_has_its_name():
    flags = {field.name for field in fields(TRAIN)}
    ours = {"stride", "precision", "tunes_threshold", "saves_by_time", "config", "sampling"}
    assert {field.name for field in fields(TrainRecipe)} - ours < flags


def test_what_is_typed_goes_before_the_published_recipe_before_the_tasks():
    model = lookup("roberta-zh-large")  # published with windows of 256
    assert _resolved().max_seq_length == 512
    assert _resolved(model).max_seq_length == 256
    assert _resolved(model, max_seq_length=32).max_seq_length == 32
    assert _resolved(model).weight_decay == TASK.defaults["weight_decay"]  # of which the recipe says nothing


@pytest.mark.parametrize(
    ("typed", "stride"),
    [
        ({}, Stride("doc_stride", 128)),
        ({"doc_stride": 8}, Stride("doc_stride", 8)),
        ({"doc_overlap": 0}, Stride("doc_overlap", 0)),
    ],
)
def test_windows_follow_each_other_in_one_way(typed, stride):
    recipe = _resolved(**typed)
    assert recipe.stride == stride
    assert recipe.windows == {"max_seq_length": 512, stride.name: stride.tokens, "max_query_length": 64}


def test_contradictions_are_refused():
    with pytest.raises(UsageError, match="--doc_stride and --doc_overlap both given"):
        _resolved(doc_stride=1, doc_overlap=1)
    with pytest.raises(UsageError, match="--loss_scale 64 needs --fp16"):
        _resolved(loss_scale="64", bf16=True)
    with pytest.raises(UsageError, match="--bf16 and --fp16 both given"):
        _resolved(bf16=True, fp16=True)


def test_a_value_that_cannot_be_meant_is_refused_although_nobody_typed_it():
    with pytest.raises(UsageError, match="--max_seq_length 0: must be at least 1 and at most 1000000"):
        resolve_recipe(PredictOptions(task="cmrc2018", model_name_or_path="x", max_seq_length=0), TASK, None)


def test_switches_become_what_they_stand_for():
    assert [_resolved(**typed).precision for typed in ({}, {"bf16": True}, {"fp16": True})] == [
        "fp32",
        "bf16",
        "fp16",
    ]
    assert [_resolved(save_steps=n).save_steps for n in (None, 0, 5)] == [0, 0, 5]
    assert [_resolved(save_steps=n).saves_by_time for n in (None, 0, 5)] == [True, False, False]
    assert [_resolved(null_score_diff_threshold=t).tunes_threshold for t in (None, 0.0)] == [True, False]
    assert _resolved(optim="bert_adam").adam_epsilon == 1e-6
    assert _resolved(optim="bert_adam", adam_epsilon=1e-3).adam_epsilon == 1e-3


def test_loss_scale_is_dynamic_or_stays_and_a_published_one_waits_for_fp16():
    assert [_resolved(**typed).loss_scale for typed in ({}, {"fp16": True}, {"loss_scale": "dynamic"})] == [
        "dynamic"
    ] * 3
    assert _resolved(fp16=True, loss_scale="64").loss_scale == 64.0
    model = replace(lookup("roberta-zh-large"), recipes={"cmrc2018": {"loss_scale": "128"}})
    assert _resolved(model).loss_scale == "dynamic"
    assert _resolved(model, fp16=True).loss_scale == 128.0
    for text in ("0", "-1", "inf", "nan", "much"):
        with pytest.raises(UsageError, match=f"--loss_scale {text}: must be dynamic or a number above 0"):
            _resolved(fp16=True, loss_scale=text)


def test_no_answer_is_searched_beyond_a_window():
    recipe = _resolved(max_seq_length=16, n_best_size=20, max_answer_length=8, null_score_diff_threshold=1.5)
    assert recipe.decode == DecodeOptions(16, 8, 1.5)


def test_a_record_holds_the_options_by_their_flags():
    """An unfinished run goes on only under the same options, so their form must stay."""
    config = _resolved(seeds=(1, 2), bf16=True).config
    assert list(config) == [field.name for field in fields(TRAIN)]
    assert (config["bf16"], config["seeds"], config["output_dir"]) == (True, [1, 2], "run")
    assert (config["doc_stride"], config["doc_overlap"], config["learning_rate"]) == (128, None, 3e-5)
    assert (config["save_steps"], config["null_score_diff_threshold"], config["test_file"]) == (None, None, None)


def test_predicting_needs_nothing_of_training():
    recipe = resolve_recipe(PredictOptions(task="cmrc2018", model_name_or_path="x", n_best_size=3), TASK, None)
    assert type(recipe) is Recipe and (recipe.max_seq_length, recipe.n_best_size) == (512, 3)


def test_defaults_name_who_gives_them():
    assert recipe_defaults("no_such_task", None) == {}
    defaults = recipe_defaults("cmrc2018", "roberta-zh-large")
    assert defaults["max_seq_length"] == (256, "published for roberta-zh-large")
    assert defaults["doc_stride"] == (128, "cmrc2018's")
