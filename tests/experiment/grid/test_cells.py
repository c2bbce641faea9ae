"""A grid's file -> its cells: every combination once, with the options that are meant for it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from experiment.grid.cells import cells_of, read_cells, runs_of, write_cells
from experiment.options.arguments import split, understand
from experiment.options.flags import GridOptions, TrainOptions
from preprocess.base.errors import DataError, UsageError
from tests.experiment.conftest import write_corpus

ROOT = Path(__file__).resolve().parents[3]
FILE = """
output_dir: runs/table
models: [hfl/rbt3, tiny=models/mine]
tasks: [cmrc2018, drcd]
frameworks: [pytorch, tensorflow]
seeds: [1, 2]
settings:
  all: {bf16: true, max_seq_length: 512, learning_rate: 3e-5}
  drcd: {learning_rate: 4e-5}
  drcd, tiny: {learning_rate: 5e-5}
  tensorflow: {bf16: false, jit_compile: }
"""


@pytest.fixture
def options(tmp_path):
    """Return a function that reads a grid's file, and flags beside it."""

    def read(text=FILE, *flags):
        path = tmp_path / "grid.yaml"
        path.write_text(text, encoding="utf-8")
        return understand(split(["--config", str(path), *flags], GridOptions), GridOptions)

    return read


def test_every_combination_is_a_run_and_every_seed_a_cell(options):
    runs = runs_of(options())
    assert [run.name for run in runs] == [
        f"{model}.{task}.{framework}"
        for model in ("rbt3", "tiny")
        for task in ("cmrc2018", "drcd")
        for framework in ("pytorch", "tensorflow")
    ]
    cells = cells_of(runs)
    assert len(cells) == 16 and len({cell.directory for cell in cells}) == 16
    # The table fills from its first column: one seed of everything before the second of anything.
    assert [cell.seed for cell in cells] == [1] * 8 + [2] * 8
    assert cells[0].directory == Path("runs/table/rbt3.cmrc2018.pytorch/seed_1")


def test_settings_reach_the_cells_that_they_name_and_later_ones_win(options):
    of = {run.name: run.options for run in runs_of(options())}
    rates = {name: each.learning_rate for name, each in of.items() if each.framework == "pytorch"}
    assert rates == {
        "rbt3.cmrc2018.pytorch": 3e-5, "rbt3.drcd.pytorch": 4e-5,
        "tiny.cmrc2018.pytorch": 3e-5, "tiny.drcd.pytorch": 5e-5,
    }  # fmt: skip
    assert {each.bf16 for each in of.values() if each.framework == "tensorflow"} == {False}
    assert of["tiny.drcd.pytorch"].model_name_or_path == "models/mine"
    assert of["tiny.drcd.pytorch"].output_dir == Path("runs/table/tiny.drcd.pytorch")


def test_a_cells_arguments_mean_what_the_grid_has_understood(options):
    for run in runs_of(options()):
        for cell in run.cells():
            command, *arguments = cell.arguments
            typed = understand(split(arguments, TrainOptions), TrainOptions)
            assert command == "train" and typed == dataclasses.replace(run.options, seeds=(cell.seed,))


def test_variants_multiply_and_what_is_left_out_is_not_there(options):
    text = FILE.replace("seeds:", "variants: [short, long]\nleave_out: ['drcd, tiny', long, tensorflow]\nseeds:")
    text += "  short: {num_train_epochs: 1}\n"
    runs = runs_of(options(text))
    assert [run.name for run in runs] == [
        "rbt3.cmrc2018.pytorch.short", "rbt3.drcd.pytorch.short", "tiny.cmrc2018.pytorch.short",
    ]  # fmt: skip
    assert all(run.options.num_train_epochs == 1 for run in runs)


def test_models_from_scratch_and_settings_on_the_command_line(options):
    typed = options("output_dir: x\n", "--config_names", "a/config.json", "--tasks", "cmrc2018", "--settings",
                    "all: {learning_rate: 1e-3}", "cmrc2018: {num_train_epochs: 3}")  # fmt: skip
    (run,) = runs_of(typed)
    assert run.options.config_name == "a/config.json" and run.options.model_name_or_path is None
    assert (run.options.learning_rate, run.options.num_train_epochs) == (1e-3, 3)


def test_a_run_stands_for_the_best_checkpoints_of_its_finished_seeds(options, tmp_path):
    run = tmp_path / "runs" / "first"
    for seed, status in ((1, "finished"), (2, "failed"), (3, "finished")):
        (run / f"seed_{seed}").mkdir(parents=True)
        record = {"task": "cmrc2018", "task_version": "1", "model": "m", "seed": seed, "status": status, "config": {},
                  "selection": [], "hashes": {}, "versions": {}}  # fmt: skip
        (run / f"seed_{seed}" / "record.json").write_text(json.dumps(record))
    (run / "config.yaml").write_text("task: cmrc2018\noutput_dir: x\nseeds: [1, 2, 3]\n")
    runs = runs_of(options(f"output_dir: x\nmodels: [{run}]\ntasks: [drcd]\nseeds: [7]\n"))
    assert [run.name for run in runs] == ["first-seed_1.drcd.pytorch", "first-seed_3.drcd.pytorch"]
    assert runs[1].options.model_name_or_path == str(run / "seed_3" / "checkpoint-best")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("learning_rate: 4e-5", "learnin_rate: 4e-5", "settings, drcd: learnin_rate: unknown option; did you mean"),
        ("learning_rate: 4e-5", "learning_rate: fast", "settings, drcd: learning_rate 'fast': a number was expected"),
        ("learning_rate: 4e-5", "seeds: [3]", "settings, drcd: seeds: the grid gives it"),
        ("learning_rate: 4e-5", "output_dir: x", "settings, drcd: output_dir: the grid gives it"),
        ("  drcd: {l", "  drdc: {l", "settings 'drdc': 'drdc' is no model, task, framework or variant of this grid; "
         "did you mean 'drcd'?"),
        ("  drcd: {learning_rate: 4e-5}", "  drcd: 4e-5", "settings, drcd: `name: {option: value}` was expected"),
        ("tasks: [cmrc2018, drcd]", "tasks: [cmrc2018, drdc]", "did you mean 'drcd'?"),
        ("tasks: [cmrc2018, drcd]", "taks: [cmrc2018, drcd]", "line 4: taks: unknown option; did you mean 'tasks'?"),
        ("tiny=models/mine", "other/rbt3", "models of one name: 'rbt3': hfl/rbt3 and other/rbt3; give one"),
        ("seeds: [1, 2]", "seeds: [1, 1]", "each once"),
        ("seeds: [1, 2]", "devices: [gpu0]", "devices gpu0: must be a GPU's number"),
        ("seeds: [1, 2]", "variants: [pytorch]", "'pytorch' is the name of two things"),
        ("seeds: [1, 2]", "variants: [a/b]", "--variants a/b: letters"),
        ("seeds: [1, 2]", "leave_out: [cmrc2018, drcd]", "--leave_out leaves no cell"),
        ("models: [hfl/rbt3, tiny=models/mine]", "", "a grid needs --models"),
    ],
)  # fmt: skip
def test_mistakes_are_told_where_they_stand(options, old, new, said):
    assert old in FILE
    with pytest.raises((UsageError, DataError), match=re.escape(said)):
        runs_of(options(FILE.replace(old, new, 1)))


def test_only_settings_may_be_a_mapping(options):
    with pytest.raises(UsageError, match="a value or a list of values was expected, found a mapping"):
        options(FILE.replace("seeds: [1, 2]", "seeds: {a: 1}"))


def test_cells_are_read_as_they_were_written(options, tmp_path):
    cells = [dataclasses.replace(cell, grid=tmp_path) for cell in cells_of(runs_of(options()))]
    write_cells(tmp_path, cells)
    assert read_cells(tmp_path) == cells
    with pytest.raises(UsageError, match="no grid was started there"):
        read_cells(tmp_path / "elsewhere")


def test_a_model_at_a_path_is_called_by_its_directory(options, tmp_path):
    corpus = write_corpus(tmp_path)
    (run,) = runs_of(options(f"output_dir: x\nconfig_names: [{corpus.model}]\ntasks: [drcd]\n"))
    assert run.name.endswith(".drcd.pytorch") and "/" not in run.name


def test_tasks_that_are_learned_together_are_a_cell_with_the_files_of_each(options):
    text = FILE.replace("tasks: [cmrc2018, drcd]", 'tasks: [cmrc2018, "cmrc2018, drcd"]')
    text += "  cmrc2018: {train_file: a.json, learning_rate: 1e-4}\n  drcd: {train_file: [b.json, c.json]}\n"
    text = text.replace("  drcd: {learning_rate: 4e-5}\n", "").replace("  drcd, tiny: {learning_rate: 5e-5}\n", "")
    text += "  cmrc2018+drcd: {task_sampling: equal}\n"
    of = {run.name: run for run in runs_of(options(text))}
    joint = of["tiny.cmrc2018+drcd.pytorch"].options
    assert joint.task == "cmrc2018,drcd" and joint.task_sampling == "equal"
    assert joint.train_file == {"cmrc2018": Path("a.json"), "drcd": (Path("b.json"), Path("c.json"))}
    # What the section of a task says else is for that task alone.
    assert (joint.learning_rate, of["tiny.cmrc2018.pytorch"].options.learning_rate) == (3e-5, 1e-4)
    assert of["tiny.cmrc2018.pytorch"].options.train_file == Path("a.json")
    (cell, _) = of["tiny.cmrc2018+drcd.pytorch"].cells()
    typed = understand(split(cell.arguments[1:], TrainOptions), TrainOptions)
    assert typed == dataclasses.replace(joint, seeds=(cell.seed,))
    left = options(text + "leave_out: [cmrc2018+drcd]\n")
    assert not any("+" in run.name for run in runs_of(left))
