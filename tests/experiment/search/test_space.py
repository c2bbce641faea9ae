"""What is searched: values are those that could be typed, and mistakes are told before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import optuna
import pytest

from experiment.options.flags import TrainOptions
from experiment.options.searching import SearchOptions
from experiment.search.space import space_of
from preprocess.base.errors import UsageError

BASE = TrainOptions(task="cmrc2018", output_dir=Path("x"))


def _space(*texts, **options):
    return space_of(SearchOptions(task="cmrc2018", output_dir=Path("x"), space=texts, **options), BASE)


def test_values_stand_as_they_would_be_typed():
    space = _space(
        "learning_rate: {low: 1e-5, high: 1e-4, log: true}\nnum-train-epochs: [1, 2.5]\n"
        "gradient_accumulation_steps: {low: 1, high: 7, step: 3}\nlora_targets: [[query], [query, value]]\n"
        "doc_stride: [~, 64]"
    )
    drawn = space.draw(
        optuna.trial.FixedTrial(
            {
                "learning_rate": 2e-5,
                "num_train_epochs": "2.5",
                "gradient_accumulation_steps": 4,
                "lora_targets": "query value",
                "doc_stride": "None",
            }
        )
    )
    assert drawn == {
        "learning_rate": "2e-05", "num_train_epochs": "2.5", "gradient_accumulation_steps": "4",
        "lora_targets": "query value", "doc_stride": "None",
    }  # fmt: skip


def test_the_published_preset_is_a_space_that_can_be_changed_and_every_combination_is_one():
    space = _space("warmup_ratio: [0.1]", preset="published")
    combinations = space.combinations()
    assert len(combinations) == 5 * 1 * 2
    assert {each["warmup_ratio"] for each in combinations} == {"0.1"}
    assert {"learning_rate": "3e-5", "warmup_ratio": "0.1", "num_train_epochs": "2"} in combinations


def test_steps_are_counted_out_and_ranges_without_steps_are_not():
    assert [
        each["weight_decay"] for each in _space("weight_decay: {low: 0, high: 0.3, step: 0.1}").combinations()
    ] == [pytest.approx(x) for x in (0.0, 0.1, 0.2, 0.3)]
    whole = _space("gradient_accumulation_steps: {low: 1, high: 3}")
    assert [each["gradient_accumulation_steps"] for each in whole.combinations()] == [1, 2, 3]
    with pytest.raises(UsageError, match="learning_rate needs a list of values, or a step"):
        _space("learning_rate: {low: 1e-5, high: 5e-5}").combinations()


def test_a_file_holds_a_space_and_what_stands_later_wins(tmp_path):
    (tmp_path / "space.yaml").write_text("learning_rate: [1e-5]\nweight_decay: [0, 0.1]\n")
    space = _space(str(tmp_path / "space.yaml"), "learning_rate: [2e-5]")
    assert space.plain == {"learning_rate": ["2e-5"], "weight_decay": ["0", "0.1"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learnin_rate: [1e-5]", "learnin_rate: unknown option; did you mean 'learning_rate'?"),
        ("learning_rate: [fast]", "'fast': a number was expected"),
        ("learning_rate: []", "values were expected, at least one, and each once"),
        ("learning_rate: [1e-5, 1e-5]", "values were expected, at least one, and each once"),
        ("learning_rate: 1e-5", "a list of values, or {low: …, high: …} with step or log, was expected"),
        ("learning_rate: {low: 1e-5}", "a list of values, or {low: …, high: …}"),
        ("learning_rate: {low: 0, high: 1e-5, log: true}", "with log low is more than 0"),
        ("learning_rate: {low: 3, high: 1}", "low must be less than high"),
        ("learning_rate: {low: -1, high: 1}", "must be at least 0"),
        ("gradient_accumulation_steps: {low: 1.5, high: 3}", "whole numbers were expected"),
        ("optim: {low: 1, high: 3}", "optim is no number; give a list"),
        ("seeds: [1, 2]", "seeds is the same in all runs; take it out, and give --seeds itself"),
        ("eval_epochs: [0.5, 1]", "eval_epochs must be the same in all trials"),
        ("learning_rate: [1e-5]\nlearning_rate: [2e-5]", "learning_rate stands there twice"),
        ("nowhere.yaml", "--space nowhere.yaml: a YAML file, or YAML such as"),
    ],
)
def test_mistakes_are_told(text, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        _space(text)


def test_nothing_to_search_is_a_mistake():
    with pytest.raises(UsageError, match="give --preset or --space"):
        _space()
