"""`ablate`: the base, each switch alone and all together are a grid, whose table says what each adds."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml

from experiment.cli import main
from experiment.grid.switches import SWITCHES, switches_of, together
from experiment.options.changed import changed
from experiment.options.fields import options_of
from experiment.options.flags import TrainOptions
from experiment.report.effects import effects
from experiment.report.measured import entries_of_run
from experiment.report.statistics import compare
from preprocess.base.errors import UsageError
from tests.experiment.conftest import train_flags

OPTIONS = [option.name for option in options_of(TrainOptions)]


@pytest.fixture
def command(grid_corpus, tmp_path):
    """Return the arguments of an ablation, with more flags."""

    def arguments(*more):
        _, *flags = train_flags(grid_corpus, tmp_path / "ablation", "--report_to", "none", "--num_train_epochs", "1")
        return ["ablate", *flags, *more]

    return arguments


def test_every_switch_has_settings_that_train_takes_and_that_change_it():
    base = TrainOptions(task="cmrc2018", output_dir="x")
    for name, settings in SWITCHES.items():
        options = changed(base, settings, "--switches")
        first = next(iter(settings))
        assert getattr(options, first) != getattr(base, first), name


def test_switches_are_names_values_options_and_several_as_one():
    assert switches_of(
        ["fgm,ema", "fgm=0.5", "lora_rank=4+learning-rate=1e-3", "rdrop + weight_decay=0"], OPTIONS
    ) == {
        "fgm": {"fgm_epsilon": "1.0"},
        "ema": {"ema_decay": "0.999"},
        "fgm-0-5": {"fgm_epsilon": "0.5"},
        "lora_rank-4-learning-rate-1e-3": {"lora_rank": "4", "learning_rate": "1e-3"},
        "rdrop-weight_decay-0": {"rdrop_alpha": "1.0", "weight_decay": "0"},
    }


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["fmg"], "--switches fmg: one of fgm, pgd"),
        (["fmg"], "did you mean 'fgm'?"),
        (["fgm_epsilon"], "fgm_epsilon is an option, and is given as fgm_epsilon=VALUE"),
        (["fgm="], "--switches fgm=: one of"),
        (["fgm", "fgm"], "a row is called 'fgm' already"),
        ([","], "at least one of"),
    ],
)
def test_mistakes_in_switches_are_told(texts, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        switches_of(texts, OPTIONS)


def test_two_values_of_one_option_can_not_be_together():
    with pytest.raises(UsageError, match=r"fgm_epsilon can't be 1.0 and 0.5 together; give --no_together"):
        together(switches_of(["fgm", "fgm=0.5"], OPTIONS))


def test_the_base_each_switch_and_all_together_are_trained_and_compared(command, begun, tmp_path, capsys):
    typed = command("--switches", "fgm,weight_decay=0.3", "--seeds", "1", "2")
    assert main([*typed, "--dry_run"]) == 0
    assert "8 cells in 4 runs" in capsys.readouterr().out
    assert begun == [] and not (tmp_path / "ablation").exists()
    assert main(typed) == 0
    said = capsys.readouterr().out
    rows = ["base", "fgm", "weight_decay-0-3", "together"]
    assert len(begun) == 8 and len(set(begun)) == 8
    written = yaml.safe_load((tmp_path / "ablation" / "grid.yaml").read_text())
    assert written["settings"]["together"] == {"fgm_epsilon": 1.0, "weight_decay": 0.3}
    assert written["settings"]["base"] == {}
    table = (tmp_path / "ablation" / "ablation.md").read_text()
    assert said.endswith(table + "\n")
    body = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert [cells[0].removeprefix("| ").replace("\\", "") for cells in body] == rows
    assert body[0][3:5] == ["-", "-"] and body[0][-1].startswith("2")
    # The difference and its interval are those of the paired comparison on the same questions.
    (model,) = {name.partition(".")[0] for name in begun}
    runs = [tmp_path / "ablation" / f"{model}.cmrc2018.pytorch.{row}" for row in rows]
    base, fgm, *_ = (next(e for e in entries_of_run(run) if e.protocol.selection == "checkpoint") for run in runs)
    (found,) = compare([(fgm.samples["f1"], base.samples["f1"])])
    low, high = found.interval.low, found.interval.high
    assert body[1][3] == f"{found.difference:+.3f} ({low:+.2f} to {high:+.2f})"
    # The same command trains nothing twice, and one with a switch more only that.
    assert main(typed) == 0
    assert main(command("--switches", "fgm", "weight_decay=0.3", "ema", "--no_together", "--seeds", "1", "2")) == 0
    assert begun[8:] == [f"{model}.cmrc2018.pytorch.ema seed {seed}" for seed in (1, 2)]


def test_a_row_that_has_failed_is_not_in_the_table(command, begun, fates, grid_corpus, tmp_path, capsys):
    name = f"{grid_corpus.data.parent.name}-model.cmrc2018.pytorch.ema seed 1"
    fates[name] = [(2, "error: out of luck")]
    status = main(command("--switches", "ema", "--seeds", "1"))
    assert name in begun and status == 1
    table = (tmp_path / "ablation" / "ablation.md").read_text()
    assert "| base |" in table and "| ema |" not in table


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--switches", "fgm,pgd"),
            "--fgm_epsilon and --pgd_epsilon both given: both move the word embeddings; "
            "leave one out, or give --no_together",
        ),
        (("--switches", "seeds=3"), "seeds is the same in all runs"),
        (("--switches", "weight_decay=heavy"), "'heavy': a number was expected"),
        (("--switches", "learning_rate=1e-3"), "the base has these settings itself"),
        (("--switches", "ema", "--overwrite_output_dir"), "--retrain_changed renames"),
        (("--switches", "ema", "--watch"), "--watch goes with --status"),
        ((), "give --switches"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(flags, said, command, begun, capsys):
    assert main(command(*flags)) == 2
    assert said in capsys.readouterr().err and begun == []


def test_a_setting_without_a_finished_seed_leaves_the_others_their_table(trained):
    (base, *_) = entries_of_run(trained)
    (table,) = effects([[base], []])
    assert len(table.rows) == 1


def test_a_setting_of_another_protocol_is_not_called_the_bases(trained):
    (base, *_) = entries_of_run(trained)
    longer = replace(base, model="longer", protocol=replace(base.protocol, max_seq_length="999", n_runs="7"))
    (table,) = effects([[base], [longer]])
    (mark,) = table.rows[1][0].notes
    assert table.notes[mark] == f"not to be compared with {base.model}, from which it differs in length (64, 999)"
    assert not table.rows[0][0].notes and table.notes["3"].startswith(f"of {base.model}: measured here; ")
