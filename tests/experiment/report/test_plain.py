"""What the plain table says beside its rows, and what is said of damaged files."""

from __future__ import annotations

import pytest

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
        "be compared; --format markdown gives each protocol a column of its own\n"
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
