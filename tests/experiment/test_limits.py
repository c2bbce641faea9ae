"""Numbers that are far too large or too small: one line or the right answer, soon; and which steps are evaluated."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from fractions import Fraction

import pytest

from experiment.cli import main
from experiment.estimate.plan import PlannedStep
from experiment.inputs.model import check_limits
from experiment.options.fields import check_ranges
from experiment.options.flags import ParityOptions, PlanOptions, TrainOptions
from experiment.options.recipe import resolve_recipe
from experiment.training.steps import Evaluated
from preprocess.base.errors import UsageError
from pretrained_configs.config import ModelConfig
from tasks.core.discovery import get_task

PLAN = ["plan", "--task", "cmrc2018", "--model_name_or_path", "chinese-roberta-wwm-ext", "--gpu", "t4"]


def _multiples(per_epoch, n_epochs, eval_epochs):
    """Return the plain rule for ordinary settings: every multiple of the interval, rounded, and the end."""
    n, interval = math.ceil(per_epoch * n_epochs), per_epoch * eval_epochs
    return sorted({max(1, round(k * interval)) for k in range(1, math.floor(n / interval) + 1)} | {n})


@pytest.mark.parametrize(
    ("per_epoch", "n_epochs", "eval_epochs", "expected"),
    [
        (3, 4, 0.5, [2, 3, 4, 6, 8, 9, 10, 12]),
        (108, 2, 0.5, [54, 108, 162, 216]),
        (10, 3, 1, [10, 20, 30]),
        (10, 1, 0.3, [3, 6, 9, 10]),
        (10, 1, 5, [10]),
        (1, 2, 0.5, [1, 2]),
    ],
)
def test_ordinary_settings_evaluate_after_these_steps(per_epoch, n_epochs, eval_epochs, expected):
    assert (
        list(Evaluated(per_epoch, n_epochs, eval_epochs)) == expected == _multiples(per_epoch, n_epochs, eval_epochs)
    )


@pytest.mark.parametrize(
    ("per_epoch", "n_epochs", "eval_epochs", "expected"),
    [
        (42, 1.1, 0.1, [4, 8, 13, 17, 21, 25, 29, 34, 38, 42, 47]),
        (42, 0.55, 0.11, [5, 9, 14, 18, 24]),
        (108, 1.1, 0.1, [11, 22, 32, 43, 54, 65, 76, 86, 97, 108, 119]),
        (10, 0.3, 0.1, [1, 2, 3]),
        (100, 1.1, 1, [100, 110]),  # 100 x 1.1 is 110.00000000000001: no step for that
    ],
)
def test_multiple_that_ends_the_training_is_its_last_step(per_epoch, n_epochs, eval_epochs, expected):
    assert list(Evaluated(per_epoch, n_epochs, eval_epochs)) == expected


@pytest.mark.parametrize("per_epoch", [1, 2, 3, 7, 42, 108])
@pytest.mark.parametrize("n_epochs", [0.01, 0.5, 1, 1.1, 2, 3.7])
@pytest.mark.parametrize("eval_epochs", [0.001, 0.01, 0.02, 0.1, 0.3, 0.5, 1, 2.5])
def test_evaluated_steps_are_the_rounded_multiples_in_exact_arithmetic(per_epoch, n_epochs, eval_epochs):
    evaluated = Evaluated(per_epoch, n_epochs, eval_epochs)
    total, every = Fraction(str(n_epochs)) * per_epoch, Fraction(str(eval_epochs)) * per_epoch
    last = math.ceil(total)
    count = math.ceil(total / every) - 1  # of multiples before the end
    expected = {max(1, round(float(k * every))) for k in range(1, count + 1)} | {last}
    if every < 1:
        expected = set(range(1, last + 1))
    steps = list(evaluated)
    assert steps == sorted(expected) and len(evaluated) == len(steps) <= last
    assert [step for step in range(1, last + 1) if step in evaluated] == steps


@pytest.mark.parametrize("n_epochs", [1e-300, 1, 1e6])
@pytest.mark.parametrize("eval_epochs", [5e-324, 1e-9, 1.7e308])
def test_no_setting_takes_time_or_memory(n_epochs, eval_epochs):
    evaluated = Evaluated(10**6, n_epochs, eval_epochs)
    last = math.ceil(10**6 * n_epochs)
    assert last in evaluated and last + 1 not in evaluated
    assert len(evaluated) == (1 if eval_epochs > 1 else last)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("per_device_train_batch_size", 10**22, "at least 1 and at most 1000000"),
        ("gradient_accumulation_steps", 10**20, "at least 1 and at most 1000000"),
        ("per_device_eval_batch_size", 10**22, "at least 1 and at most 1000000"),
        ("max_seq_length", 10**22, "at least 1 and at most 1000000"),
        ("n_best_size", 0, "at least 1 and at most 1000000"),
        ("num_train_epochs", 1e12, "more than 0 and at most 1000000"),
        ("num_train_epochs", 0.0, "more than 0 and at most 1000000"),
    ],
)
def test_number_that_cannot_be_meant_is_named(option, value, allowed, tmp_path, capsys):
    assert (
        main(["train", "--task", "cmrc2018", "--output_dir", str(tmp_path / "run"), f"--{option}", str(value)]) == 2
    )
    assert capsys.readouterr().err == f"error: --{option} {value}: must be {allowed}\n"


def test_limits_are_allowed_and_one_more_is_not():
    options = PlanOptions(task="cmrc2018", per_device_train_batch_size=10**6, n_devices=10**4, num_train_epochs=1e6)
    check_ranges(options)
    with pytest.raises(UsageError, match="--n_devices 10001: must be at least 1 and at most 10000"):
        check_ranges(replace(options, n_devices=10**4 + 1))
    with pytest.raises(UsageError, match="--steps 1000001"):
        check_ranges(ParityOptions(task="cmrc2018", steps=10**6 + 1))


def test_integer_beyond_any_float_is_no_traceback(tmp_path):
    options = TrainOptions(task="cmrc2018", output_dir=tmp_path, logging_steps=10**400)
    check_ranges(options)  # an interval that is never reached
    with pytest.raises(UsageError, match=r"--seeds 1000*: must be between 0 and 2\*\*32 - 1"):
        check_ranges(replace(options, seeds=(10**400,)))


@pytest.mark.parametrize("per_device", [1, 2, 12, 16, 97, 360, 1024])
def test_shares_of_a_step_are_all_its_divisors(per_device):
    options = PlanOptions(task="cmrc2018", gradient_accumulation_steps=per_device)
    step = PlannedStep(resolve_recipe(options, get_task("cmrc2018"), None), 1, None, None, 1)
    assert step.shares == [(n, per_device // n) for n in range(per_device, 0, -1) if per_device % n == 0]


def test_plan_of_the_largest_step_is_there_soon(tmp_path, capsys):
    step = ("--per_device_train_batch_size", "1000000", "--gradient_accumulation_steps", "1000000")
    start = time.perf_counter()
    assert main([*PLAN, "--data_dir", str(tmp_path), *step]) == 0
    # Trying every number down from 10^12 would take days; this takes less than a second.
    assert time.perf_counter() - start < 30
    row = capsys.readouterr().out.splitlines()[1].split()
    batch, n_passes = (int(row[i]) for i in (row.index("x") - 1, row.index("x") + 1))
    assert batch * n_passes == 10**12 and batch > 1


@pytest.mark.parametrize(
    ("epochs", "every", "n"),
    [("3", "0.001", 9), ("3", "0.5", 6), ("1.1", "0.1", 4), ("1", "2", 1)],
)
def test_plan_counts_the_evaluations_that_train_makes(epochs, every, n, corpus, tmp_path, capsys):
    command = [
        "plan", "--task", "cmrc2018", "--config_name", str(corpus.model), "--train_file", str(corpus.data),
        "--validation_file", str(corpus.data), "--max_seq_length", "64", "--per_device_train_batch_size", "2",
        "--feature_cache_dir", str(tmp_path / "cache"), "--num_train_epochs", epochs, "--eval_epochs", every,
    ]  # fmt: skip
    assert main(command) == 0
    # Three steps per epoch, so four in 1.1 epochs.
    assert f" and {n} evaluations each" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_size": 2**20}, "weights alone take"),  # more than any machine of ours has
        ({"hidden_size": 2**30}, "the parameters would take"),  # more than PyTorch can count
        ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000 is more than 1000"),
        ({"type_vocab_size": 0}, "type_vocab_size 0 is not positive"),
    ],
)
def test_sizes_that_can_not_be_built_are_one_line_before_anything_is_written(
    sizes, message, corpus, flags, tmp_path, capsys
):
    path = corpus.model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **sizes}))
    assert main([*flags(corpus, tmp_path / "run"), "--overwrite_output_dir"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "most", "named"),
    [
        ({"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 514}, 512, " - 2 512"),
        ({"model_type": "xlm-roberta", "pad_token_id": 1, "max_position_embeddings": 300}, 298, " - 2 298"),
        ({"position_embedding_type": "relative_key", "max_position_embeddings": 384}, 384, " 384"),
        ({"position_embedding_type": "relative_key_query", "max_position_embeddings": 384}, 384, " 384"),
        ({"model_type": "nezha", "max_position_embeddings": 128}, 128, " 128"),
    ],
)
def test_windows_beyond_the_trained_positions_are_refused_with_the_limit(changes, most, named):
    config = ModelConfig(100, 32, 1, 2, 64, **changes)
    recipes = [
        resolve_recipe(TrainOptions(task="cmrc2018", output_dir="run", max_seq_length=n), get_task("cmrc2018"), None)
        for n in (most, most + 1)
    ]
    check_limits(recipes[0], "m", config, None)
    with pytest.raises(UsageError, match=f"^--max_seq_length {most + 1} > max_position_embeddings{named} .m.; use"):
        check_limits(recipes[1], "m", config, None)
