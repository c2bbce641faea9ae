"""What the plain table says beside its rows, and what is said of damaged files."""

from __future__ import annotations

import re

import pytest

from experiment.api import leaderboard
from experiment.cli import main
from tasks.core.discovery import get_task


def test_plain_table_says_on_standard_error_which_seed_did_not_learn(runs, capsys):
    run = runs.make("a", [0.7, 0.02])
    assert main(["leaderboard", str(run)]) == 0
    out, error = capsys.readouterr()
    assert out.count("\n") == 3 and "did not learn" not in out
    assert error == f"{run}: seed 2 did not learn, and is in the mean (EM 1.67)\n"


def test_plain_table_says_on_standard_error_which_rows_can_not_be_compared(runs, capsys):
    """It has one column for all; a run that was given twice is one row."""
    first, same = runs.make("a", [0.7, 0.7]), runs.make("b", [0.7, 0.7])
    assert main(["leaderboard", str(first), str(same), f"{first}/"]) == 0
    out, error = capsys.readouterr()
    assert out.count("\n") == 4 and not error
    other = runs.make("c", [0.7], config={"max_seq_length": 256}, hashes={})
    assert main(["leaderboard", str(first), str(other)]) == 0
    assert capsys.readouterr().err == (
        "cmrc2018, dev: rows differ in data (da7ada7a, not known), number of seeds (1, 2), length (256, 512): not to "
        "be compared; `leaderboard --format markdown` gives each protocol a column of its own\n"
    )


@pytest.mark.parametrize("damaged", ["[1]", '{"Q": 1}', '{"Q": {"em": "x"}}', '{"Q": {"em": NaN}}'])
@pytest.mark.parametrize("command", [["leaderboard", "--format", "json"], ["report", "--output", "out"]])
def test_damaged_scores_are_one_line(command, damaged, runs, tmp_path, monkeypatch, capsys):
    run = runs.make("a", [0.5], config={"validation_file": "dev.json"}, hashes={"dev_file": ""})
    (run / "seed_1/scores_dev.json").write_text(f'{{"per_example": {damaged}}}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiment.report.page.answers.Questions.of", lambda *_: (get_task("cmrc2018"), []))
    assert main([command[0], str(run), *command[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("score the seed again") and "scores_dev.json: " in line


def test_a_directory_of_runs_stands_for_them_all(runs, tmp_path, capsys):
    """Such as a grid's."""
    runs.make("a", [0.7]), runs.make("b", [0.6]), runs.make("b~1", [0.5], model="set aside")
    (tmp_path / "logs").mkdir()
    assert main(["leaderboard", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| a |" in out and "| b |" in out and "set aside" not in out and out == str(leaderboard(tmp_path))
    assert main(["leaderboard", str(tmp_path / "logs")]) == 2
    assert "logs: not a run directory" in capsys.readouterr().err


@pytest.mark.parametrize("name", [r"<img src=x>", "[x](javascript:y)", r"a\|b | c", "a\n| b", "`c` *d*"])
def test_names_stay_text_in_the_plain_table(name, runs):
    lines = str(leaderboard(runs.make("a", [0.7], model=name))).splitlines()
    shown = re.sub(r"\\([\\|`*\[\]])", r"\1", lines[2].replace("&lt;", "<"))
    assert len(lines) == 3 and f"| {' '.join(name.split())} | " in shown
    assert not re.search(r"(?<!\\)[\[\]`*]|<", lines[2])


def test_the_api_says_what_the_table_has_no_room_for(runs):
    table = leaderboard(runs.make("a", [0.7, 0.02]), runs.make("b", [0.7], config={"max_seq_length": 256}))
    assert len(table.notes) == 2 and all(note in str(table) for note in table.notes)
    assert "seed 2 did not learn" in table.notes[0] and "rows differ in number of seeds" in table.notes[1]
