"""Where numbers come from: the command that makes them again."""

from __future__ import annotations

import shlex

import pytest

from experiment.options.arguments import split, understand
from experiment.options.flags import TrainOptions
from experiment.options.recipe import resolve_recipe
from experiment.report.provenance import command_of, duration
from tasks.core.discovery import get_task


def _config(arguments):
    """Return options as a run directory holds them."""
    return resolve_recipe(understand(split(arguments, TrainOptions), TrainOptions), get_task("cmrc2018"), None).config


@pytest.mark.parametrize(
    "more",
    [
        "",
        "--bf16 --no_group_by_length --seeds 3 4 --learning_rate 1e-5 --doc_stride 64",
        "--feature_cache_dir None --max_eval_samples 5 --save_steps 7",
        "--output_dir=--odd --test_file 'a b.json'",
        "--train_file t.json 'u v.json' --test_file cmrc2018=a cmrc2018=b",
    ],
)
def test_the_command_has_the_same_recipe(more):
    """All options as resolved, typed again, resolve to themselves."""
    line = "--task cmrc2018 --config_name m --train_file t.json --validation_file d.json --output_dir out "
    first = _config(shlex.split(line + more))
    program, command, *rest = shlex.split(command_of(first))
    assert (program, command) == ("chinese-mrc", "train")
    assert _config(rest) == first


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (75, "1 min 15 s"), (3599.6, "1 h 00 min"), (7320, "2 h 02 min")],
)
def test_times_are_said_in_words(seconds, text):
    assert duration(seconds) == text
