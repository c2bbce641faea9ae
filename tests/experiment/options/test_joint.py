"""Several tasks on the command line and in YAML: what each is told, and one line for each mistake."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from experiment.options.arguments import split, understand
from experiment.options.flags import TrainOptions
from experiment.options.joint import Sampling, of_each_task, sampling_of
from experiment.options.recipe import resolve_recipe, task_of
from experiment.options.together import together
from preprocess.base.errors import DataError, UsageError
from pretrained_configs.catalog import lookup


def _understood(*flags):
    return understand(split(["--output_dir", "run", *flags], TrainOptions), TrainOptions)


def _together(*flags, published=None):
    options = _understood(*flags)
    recipes = {name: resolve_recipe(own, task_of(own), published) for name, own in of_each_task(options).items()}
    return together(options, recipes)


TWO = ("--task", "cmrc2018,drcd")


def test_each_task_is_told_its_own_files_and_choices():
    own = of_each_task(
        _understood(*TWO, "--train_file", "cmrc2018=a.json", "drcd=~/b.json", "--opencc_config", "none")
    )
    assert {name: each.task for name, each in own.items()} == {"cmrc2018": "cmrc2018", "drcd": "drcd"}
    assert own["cmrc2018"].train_file == Path("a.json") and own["drcd"].train_file == Path.home() / "b.json"
    assert (own["cmrc2018"].opencc_config, own["drcd"].opencc_config) == (None, "none")


def test_one_task_takes_a_path_whatever_is_in_it_or_its_own_name():
    for given, path in (("a=b.json", "a=b.json"), ("cmrc2018=b.json", "b.json"), ("b.json", "b.json")):
        assert _understood("--task", "cmrc2018", "--train_file", given).train_file == Path(path)


def test_a_yaml_file_has_a_mapping_and_what_a_run_writes_means_the_same(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "task: cmrc2018,drcd\ntrain_file:\n  cmrc2018: a.json\n  drcd: b.json\ntask_weights: {cmrc2018: 1, drcd: 3}\n"
    )
    recipe, _ = _together("--config", str(path))
    assert recipe.config["train_file"] == {"cmrc2018": "a.json", "drcd": "b.json"}
    assert recipe.sampling == Sampling(weights={"cmrc2018": 1.0, "drcd": 3.0})
    assert recipe.config["task_sampling"] == "weights"
    path.write_text(yaml.safe_dump(dict(recipe.config)))
    assert _together("--config", str(path))[0] == recipe


def test_several_files_of_a_task_are_a_tuple_and_one_stands_alone(tmp_path):
    for flags in (("a.json", "b.json"), ("c3=a.json", "c3=b.json")):
        options = _understood("--task", "c3", "--train_file", *flags, "--validation_file", "dev.json")
        assert options.train_file == (Path("a.json"), Path("b.json")) and options.validation_file == Path("dev.json")
    several = ("--validation_file", "c3=a", "cmrc2018=~/b", "c3=c")
    recipe, _ = _together("--task", "cmrc2018,c3", *several)
    assert recipe.config["validation_file"] == {"c3": ["a", "c"], "cmrc2018": str(Path.home() / "b")}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(dict(recipe.config)))
    assert _together("--config", str(path))[0] == recipe
    for text, files in (
        ("[a, b]", (Path("a"), Path("b"))),
        ("[a]", Path("a")),
        ("{c3: [a, b]}", (Path("a"), Path("b"))),
    ):
        path.write_text(f"task: c3\ntrain_file: {text}\n")
        assert _understood("--config", str(path)).train_file == files


def test_squad_is_called_by_the_version_that_it_is():
    recipe, _ = _together(
        "--task", "cmrc2018,squad", "--version_2_with_negative", "--train_file", "squad=a", "cmrc2018=b"
    )
    assert recipe.config["task"] == "cmrc2018,squad_v2"
    assert recipe.config["train_file"] == {"cmrc2018": "b", "squad_v2": "a"}


def test_the_first_task_says_how_parameters_move_and_the_log_who_would_have_moved_them_otherwise():
    of_cjrc = {"learning_rate": 4e-5, "num_train_epochs": 3}
    published = dataclasses.replace(lookup("chinese-roberta-wwm-ext"), recipes={"cjrc": of_cjrc})
    both = ("--task", "cjrc,cmrc2018")
    recipe, lines = _together(*both, published=published)
    assert (recipe.learning_rate, recipe.num_train_epochs) == (4e-5, 3)
    assert "--learning_rate 4e-05, cjrc's, is for all tasks, not cmrc2018's 3e-05" in lines and len(lines) == 2
    recipe, lines = _together(*both, "--learning_rate", "1e-5", "--num_train_epochs", "1", published=published)
    assert (recipe.learning_rate, recipe.num_train_epochs, lines) == (1e-5, 1, [])


def test_windows_that_tasks_differ_in_are_left_out_of_what_a_run_repeats():
    assert _together(*TWO)[0].config["max_seq_length"] == 512
    differing = _together("--task", "cmrc2018,squad")[0]
    assert differing.config["max_seq_length"] is None
    assert _together("--task", "cmrc2018,squad", "--max_seq_length", "64")[0].config["max_seq_length"] == 64


@pytest.mark.parametrize(
    ("flags", "sampling"),
    [
        ((), Sampling()),
        (("--task_sampling", "equal"), Sampling(0.0)),
        (("--task_sampling", "temperature"), Sampling(0.5)),
        (("--sampling_temperature", "4"), Sampling(0.25)),
        (("--task_weights", "drcd=3", "cmrc2018=1"), Sampling(weights={"cmrc2018": 1.0, "drcd": 3.0})),
    ],
)
def test_how_often_each_task_has_its_turn(flags, sampling):
    assert sampling_of(_understood(*TWO, *flags)) == sampling


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            (*TWO, "--train_file", "a.json"),
            "--train_file 'a.json': TASK=VALUE was expected for each of cmrc2018, drcd",
        ),
        ((*TWO, "--train_file", "drdc=a.json"), "drdc is none of the tasks cmrc2018, drcd; did you mean 'drcd'?"),
        ((*TWO, "--task_weights", "drcd=1", "drcd=2"), "--task_weights 'drcd=2': drcd has a value already"),
        (("--task", "drcd", "--train_file", "drcd=a", "cjrc=b"), "'cjrc=b': cjrc is none of the tasks drcd"),
        (
            ("--task", "drcd", "--train_file", "drcd=a", "b"),
            "--train_file 'b': TASK=VALUE was expected for each of drcd",
        ),
        (("--task", "drcd,drcd"), "--task drcd,drcd: drcd stands there twice"),
        (("--task", "drcd,"), "--task 'drcd,': names of tasks with commas between them were expected"),
        (("--task", "drcd,drdc"), "unknown task 'drdc'; did you mean 'drcd'?"),
        (("--task", "cmrc2018,squad", "--opencc_config", "t2s"), "none of the tasks cmrc2018, squad has this option"),
        (("--task", "drcd", "--task_sampling", "equal"), "--task_sampling: --task drcd is one task"),
        (
            (*TWO, "--task_sampling", "equal", "--task_weights", "drcd=1"),
            "--task_weights is for --task_sampling weights",
        ),
        ((*TWO, "--task_sampling", "weights", "--sampling_temperature", "2"), "is for --task_sampling temperature"),
        ((*TWO, "--task_sampling", "weights"), "a weight for each of cmrc2018, drcd was expected; cmrc2018 has none"),
        ((*TWO, "--task_weights", "drcd=1"), "cmrc2018 has none"),
        ((*TWO, "--task_weights", "drcd=0", "cmrc2018=1"), "--task_weights 0.0: must be more than 0"),
        ((*TWO, "--task_weights", "drcd=much"), "--task_weights 'much': a number was expected"),
    ],
)
def test_each_mistake_is_one_line(flags, said):
    with pytest.raises((UsageError, DataError)) as caught:
        _together(*flags)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{cmrc2018: {a: b}}", "train_file: `task: value` was expected for each task"),
        ("{cmrc2018: [[a.json]]}", "train_file: `task: value` was expected for each task"),
        ("{cmrc2018: []}", "train_file: `task: value` was expected for each task"),
        ("{}", "train_file: the mapping is empty"),
        ("{drcd: }", "train_file: `task: value` was expected for each task"),
    ],
)
def test_a_mapping_that_is_none_of_tasks_to_files_names_its_line(tmp_path, text, said):
    (tmp_path / "run.yaml").write_text(f"task: cmrc2018,drcd\ntrain_file: {text}\n")
    with pytest.raises(UsageError, match="line 2: ") as caught:
        _understood("--config", str(tmp_path / "run.yaml"))
    assert said in str(caught.value)
