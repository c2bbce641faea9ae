"""`search`: trials are ordinary runs, no trial is lost, and the result is a grid with seeds of its own."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

import pytorch_modeling
from experiment.cli import main
from experiment.options.arguments import split, understand
from experiment.options.changed import train_options
from experiment.options.flags import TrainOptions
from experiment.search.space import space_of
from experiment.search.study import Study
from experiment.search.trials import merit
from experiment.training.checkpoints import DIRECTORY
from experiment.training.hooks import GivenUp, Hook
from experiment.training.protocol import train
from tests.experiment.conftest import ROOT, train_flags

RATES = ("--space", "learning_rate: [1e-3, 2e-3, 4e-3]\nwarmup_ratio: [0, 0.5]", "--pruner", "none")


def _study(options):
    return Study(options, space_of(options, train_options(options)))


def _states(options):
    return [trial.state.name for trial in _study(options).trials]


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_trials_are_runs_and_the_best_becomes_a_grid(storage, search, understood, record, tmp_path, capsys):
    flags = (*RATES, "--storage", storage, "--n_trials", "3")
    directory = search(*flags)
    table = capsys.readouterr().out
    study = _study(understood(*flags))
    assert _states(understood(*flags)) == ["COMPLETE"] * 3
    for trial in study.trials:
        seen = record(directory, trial.number) if trial.user_attrs.get("same_as") is None else None
        if seen is not None:
            # What the study was told is what the run has: settings, every evaluation, and the score.
            assert repr(seen["config"]["learning_rate"]) == repr(float(trial.params["learning_rate"]))
            on_dev = [merit(["f1", "em"], entry["dev"]) for entry in seen["evaluations"]]
            assert list(trial.intermediate_values.items()) == list(enumerate(on_dev, start=1)) and len(on_dev) == 4
            assert trial.value == merit(["f1", "em"], seen["scores"]["dev"])
    best = max(study.trials, key=lambda trial: trial.value)
    assert study.best.number == best.number
    # Only the best trial's model is worth the disk.
    kept = [path.parent.parent.name for path in directory.glob("trial_*/seed_42/checkpoint-best")]
    assert kept == [f"trial_{best.number:03}"]
    assert f"**{best.value:.3f}**" in (directory / "trials.md").read_text() and f"**{best.value:.3f}**" in table
    grid = yaml.safe_load((directory / "grid.yaml").read_text())
    assert grid["seeds"] == [1, 2] and grid["settings"]["best"]["learning_rate"] == float(
        best.params["learning_rate"]
    )
    assert grid["settings"]["all"]["max_seq_length"] == 64 and "data_dir" not in grid["settings"]["all"]
    assert main(["grid", "--config", str(directory / "grid.yaml"), "--dry_run"]) == 0
    assert re.search(r"model\.cmrc2018\.pytorch\.best +2 ", capsys.readouterr().out)
    # The same command has nothing left to train, and more trials can be asked for.
    search(*flags)
    assert "trial 3" not in capsys.readouterr().out


def test_an_interrupted_trial_goes_on_from_its_checkpoint(command, search, understood, record, monkeypatch):
    flags = ("--space", "learning_rate: {low: 1e-3, high: 4e-3, log: true}", "--n_trials", "2")
    whole = search(*flags, output="whole")
    step, n_steps = pytorch_modeling.Trainer.step, []

    def dying(self, batches):
        step(self, batches)
        n_steps.append(1)
        if len(n_steps) == 4:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(pytorch_modeling.Trainer, "step", dying)
        assert main(command(*flags)) == 130
    assert _states(understood(*flags)) == ["RUNNING"]
    n_steps.clear()
    monkeypatch.setattr(
        pytorch_modeling.Trainer, "step", lambda self, batches: (n_steps.append(1), step(self, batches))
    )
    parts = search(*flags)
    assert _states(understood(*flags)) == ["COMPLETE"] * 2
    # Not a step twice; the trial is the one that it would have been, and so is what was drawn after it.
    assert len(n_steps) == 2 * 6 - 4
    for number in (0, 1):
        assert record(parts, number)["scores"] == record(whole, number)["scores"]
        assert record(parts, number)["evaluations"] == record(whole, number)["evaluations"]


def test_a_worker_killed_before_it_told_the_study_is_not_trained_again(search, understood, monkeypatch):
    flags = (*RATES, "--n_trials", "1")
    with monkeypatch.context() as patch, contextlib.suppress(RuntimeError):
        patch.setattr(Study, "finished", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        search(*flags)
    assert _states(understood(*flags)) == ["RUNNING"]
    monkeypatch.setattr(pytorch_modeling.Trainer, "step", lambda *_: pytest.fail("trained again"))
    search(*flags)
    assert _states(understood(*flags)) == ["COMPLETE"]


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_workers_at_once_share_the_trials(storage, understood, tmp_path):
    options = understood(*RATES, "--storage", storage, "--n_trials", "6")
    first, second = _study(options), _study(options)
    begun: list[int] = []
    both = threading.Barrier(2)

    def work(study):
        while True:
            with study.next_trial() as trial:
                if trial is None:
                    return
                begun.append(trial.number)
                if len(begun) <= 2:
                    both.wait(timeout=60)  # each holds a trial, and neither takes the other's for one left behind
                study.finished(trial, 1.0)

    workers = [threading.Thread(target=work, args=(study,)) for study in (first, second)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert sorted(begun) == [0, 1, 2, 3, 4, 5]
    assert _states(options) == ["COMPLETE"] * 6


def test_what_is_drawn_does_not_depend_on_who_draws_it(understood):
    def drawn(options, n_workers):
        studies = [_study(options) for _ in range(n_workers)]
        settings = []
        for i in range(4):
            with studies[i % n_workers].next_trial() as trial:
                settings.append(trial.settings)
                studies[i % n_workers].finished(trial, float(i))
        return settings

    flags = ("--space", "learning_rate: {low: 1e-5, high: 1e-3, log: true}", "--n_trials", "4", "--output_dir")
    parent = understood().output_dir.parent
    one, two = (drawn(understood(*flags, str(parent / name)), n) for name, n in (("one", 1), ("two", 4)))
    assert one == two and len({each["learning_rate"] for each in one}) == 4


def test_half_a_line_of_a_killed_worker_does_not_end_the_journal(understood):
    options = understood(*RATES, "--n_trials", "3")
    study = _study(options)
    with study.next_trial() as trial:
        study.finished(trial, 1.0)
    journal = options.output_dir / "storage" / "journal.log"
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"x')
    with _study(options).next_trial() as trial:
        assert trial.number == 1
    assert _states(options) == ["COMPLETE", "RUNNING"]


def test_a_damaged_study_is_one_line(command, understood, capsys):
    options = understood(*RATES)
    _study(options)
    (options.output_dir / "storage" / "journal.log").write_text("no journal\nat all\n")
    assert main(command(*RATES)) == 2
    assert "the study in it can't be read" in capsys.readouterr().err


def test_a_grid_of_values_is_gone_through_once(understood):
    options = understood(*RATES, "--sampler", "grid")
    study, seen = _study(options), []
    while True:
        with study.next_trial() as trial:
            if trial is None:
                break
            seen.append(tuple(trial.settings.values()))
            study.finished(trial, 0.0)
    assert sorted(seen) == [(rate, share) for rate in ("1e-3", "2e-3", "4e-3") for share in ("0", "0.5")]
    assert seen != sorted(seen)  # one that is ended early has seen a fair part of it


def test_a_grid_of_values_is_gone_through_whoever_drew_before(understood):
    """Two trials by chance, then the grid, then the grid in another order: every combination once, and none twice."""
    seen = []
    for flags, n in (
        (("--sampler", "random"), 2),
        (("--sampler", "grid"), 2),
        (("--sampler", "grid", "--search_seed", "9"), 9),
    ):
        study = _study(understood(*RATES, *flags))
        for _ in range(n):
            with study.next_trial() as trial:
                if trial is not None:
                    seen.append(tuple(trial.settings.values()))
                    study.finished(trial, 0.0)
    assert sorted(set(seen)) == [(rate, share) for rate in ("1e-3", "2e-3", "4e-3") for share in ("0", "0.5")]
    assert len(seen[2:]) == len(set(seen[2:])) and not {*seen[2:]} & {*seen[:2]}


def test_an_interrupted_trial_is_kept_from_a_search_with_other_options(
    command, record, monkeypatch, tmp_path, capsys
):
    step, n_steps = pytorch_modeling.Trainer.step, []

    def interrupted(self, batches):
        n_steps.append(1)
        if len(n_steps) == 3:
            raise KeyboardInterrupt
        return step(self, batches)

    monkeypatch.setattr(pytorch_modeling.Trainer, "step", interrupted)
    typed = command(*RATES, "--n_trials", "1", "--save_steps", "1")
    assert main(typed) == 130
    kept = sorted((tmp_path / "search" / "trial_000" / "seed_42" / DIRECTORY).iterdir())
    assert kept
    capsys.readouterr()
    assert main([*typed, "--weight_decay", "0.05"]) == 2
    assert "its trials are other runs (weight_decay" in capsys.readouterr().err
    assert sorted((tmp_path / "search" / "trial_000" / "seed_42" / DIRECTORY).iterdir()) == kept
    assert main(typed) == 0 and record(tmp_path / "search", 0)["status"] == "finished"


def test_a_bad_trial_is_given_up_and_its_record_says_so(search, understood, record, capsys):
    # The first three are what it is compared with; a rate of 0 learns nothing.
    flags = ("--space", "learning_rate: [5e-3, 6e-3, 7e-3, 0]", "--sampler", "grid", "--num_train_epochs", "3")
    flags += ("--search_seed", "%d")
    options = next(
        candidate
        for seed in range(100)
        if (candidate := understood(*flags[:-1], str(seed))) and _study_order(candidate)[-1] == "0"
    )
    directory = search(*flags[:-1], str(options.search_seed))
    assert _states(options) == ["COMPLETE"] * 3 + ["PRUNED"]
    given_up = record(directory, 3)
    assert given_up["status"] == "pruned" and "others were better" in given_up["error"]
    assert given_up["scores"] == {} and 0 < len(given_up["evaluations"]) < 6
    assert given_up["evaluations"][-1]["step"] < given_up["n_steps"] == 9
    assert not (directory / "trial_003" / "seed_42" / DIRECTORY).exists()
    said = capsys.readouterr().out
    assert "given up at evaluation" in said and "1 unfinished" in said


def _study_order(options):
    combinations = space_of(options, train_options(options)).combinations()
    random.Random(options.search_seed).shuffle(combinations)
    return [each["learning_rate"] for each in combinations]


def test_a_trial_that_can_not_be_trained_fails_alone(search, understood, monkeypatch):
    flags = ("--space", "gradient_accumulation_steps: [1, 2]", "--sampler", "grid")
    step = pytorch_modeling.Trainer.step

    def hungry(self, batches):
        if len(batches) > 1:
            raise MemoryError("there is no more of it")
        return step(self, batches)

    monkeypatch.setattr(pytorch_modeling.Trainer, "step", hungry)
    directory = search(*flags)
    assert sorted(_states(understood(*flags))) == ["COMPLETE", "FAIL"]
    assert not list(directory.glob(f"trial_*/seed_42/{DIRECTORY}"))
    assert "failed (there is no more of it)" in (directory / "trials.md").read_text()
    assert yaml.safe_load((directory / "grid.yaml").read_text())["settings"]["best"] == {}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--trial_seeds", "2", "7"), "--seeds 2: trials are trained with it"),
        (("--overwrite_output_dir",), "a search deletes no other"),
        (("--task", "drdc"), "error: search: unknown task 'drdc'; did you mean 'drcd'?"),
        (("--space", "bf17: [true]"), "did you mean 'bf16'"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(flags, said, command, tmp_path, capsys):
    assert main(command(*RATES, *flags)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "search").exists()


def test_another_search_is_not_taken_up(search, command, capsys):
    search(*RATES, "--n_trials", "1")
    for flags, said in (
        (("--space", "learning_rate: [1e-3]"), "holds another search (space "),
        ((*RATES, "--trial_seeds", "43"), "holds another search (trial_seeds [42] there, [43] here)"),
        ((*RATES, "--storage", "sqlite"), "its search has --storage journal"),
        ((*RATES, "--weight_decay", "0.5"), "its trials are other runs (weight_decay 0.01 there, 0.5 here)"),
    ):
        capsys.readouterr()
        assert main(command("--n_trials", "1", *flags)) == 2
        assert said in capsys.readouterr().err


def test_without_optuna_one_line_says_what_to_install(command, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert main(command(*RATES)) == 2
    assert capsys.readouterr().err == "error: search needs Optuna: pip install 'chinese-mrc[search]'\n"


def test_several_tasks_are_searched_by_their_mean(command, search_corpus, record, tmp_path, capsys):
    typed = command("--space", "learning_rate: [1e-3, 2e-3]", "--sampler", "grid", "--num_train_epochs", "1")
    for flag in ("--train_file", "--validation_file"):
        at = typed.index(flag)
        typed[at : at + 2] = [flag, f"cmrc2018={search_corpus.data}", f"drcd={search_corpus.data}"]
    typed[typed.index("--task") + 1] = "cmrc2018,drcd"
    assert main(typed) == 0
    means = [record(tmp_path / "search", number)["scores"]["dev"]["mean"] for number in (0, 1)]
    assert f"| **{max(means):.3f}** |" in (tmp_path / "search" / "trials.md").read_text()
    # Each task has a checkpoint of its own; those of the other trial are deleted, too.
    assert len(list((tmp_path / "search").rglob("checkpoint-best"))) == 3
    assert main(["grid", "--config", str(tmp_path / "search" / "grid.yaml"), "--dry_run"]) == 0
    assert "cmrc2018+drcd.pytorch.best" in capsys.readouterr().out


@pytest.mark.soak
@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_a_worker_that_is_killed_loses_no_trial_to_its_neighbour(storage, command, understood, record):
    """Two processes; the one that holds trial 0 is killed in it, and the other one brings all to their end."""
    flags = ("--space", "learning_rate: {low: 1e-4, high: 1e-3}", "--pruner", "none", "--storage", storage)
    flags += ("--n_trials", "4", "--num_train_epochs", "100", "--eval_epochs", "10")
    flags += ("--save_steps", "3")
    options = understood(*flags)
    typed = [sys.executable, str(ROOT / "run_mrc.py"), *command(*flags)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    checkpoints = options.output_dir / "trial_000" / "seed_42" / DIRECTORY
    first = subprocess.Popen(typed, stdout=subprocess.DEVNULL, env=environment)
    while not list(checkpoints.glob("[!.]*")):
        assert first.poll() is None
        time.sleep(0.01)
    second = subprocess.Popen(typed, stdout=subprocess.DEVNULL, env=environment)
    first.kill()
    first.wait()
    assert second.wait(timeout=300) == 0
    assert _states(options) == ["COMPLETE"] * 4
    assert "goes on after step" in (options.output_dir / "trial_000" / "run.log").read_text()
    assert record(options.output_dir, 0)["status"] == "finished"


class Enough(Hook):
    def after_evaluation(self, run, evaluation):
        raise GivenUp("enough")


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_a_run_that_is_given_up_trains_no_other_seed(framework, search_corpus, tmp_path):
    _, *flags = train_flags(search_corpus, tmp_path / "run", "--framework", framework)
    (record,) = train(understand(split(flags, TrainOptions), TrainOptions), [Enough])
    assert (record.status, record.error, record.seed) == ("pruned", "enough", 1)
    assert not (tmp_path / "run" / "seed_2").exists()
    assert "given up at step 2/6 (enough)" in (tmp_path / "run" / "run.log").read_text()
