"""The leaderboard, read cell by cell, and the two forms of a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiment.cli import main
from experiment.io.tables import aligned, markdown
from experiment.report.table import markdown as leaderboard_of
from experiment.report.table import mean_max, rows_of, standard_deviation
from experiment.training.record import Record


def record(seed=1, scores=None, selection=("f1", "em"), **changes):
    """Return the Record of a finished seed; without scores, of a failed one."""
    facts = {"task": "cmrc2018", "task_version": "1", "model": "m", "config": {}, "hashes": {}, "versions": {}}
    facts |= {"status": "finished" if scores else "failed", "scores": {"dev": scores} if scores else {}}
    return Record(seed=seed, selection=list(selection), **facts | changes)


def read(table):
    """Return the tables of a Markdown text, each a list of {title: cell}; titles that occur twice are numbered."""
    tables = []
    for block in table.rstrip("\n").split("\n\n"):
        header, line, *body = ([cell.strip() for cell in row[1:-1].split(" | ")] for row in block.splitlines())
        assert set("".join(line)) <= set("-|")
        titles = [f"{title} {header[: i + 1].count(title)}" if header.count(title) > 1 else title
                  for i, title in enumerate(header)]  # fmt: skip
        tables.append([dict(zip(titles, row, strict=True)) for row in body])
    return tables


def names(table):
    return [row["model"] for rows in read(table) for row in rows]


def test_row_of_f1_and_em_by_hand():
    records = [record(1, {"em": 60.0, "f1": 80.0}), record(2, {"em": 62.0, "f1": 81.0}), record(3)]
    assert leaderboard_of(rows_of(records)) == (
        "| task | split | model | F1:mean(max) | sd | EM:mean(max) | sd | seeds |\n"
        "|---|---|---|---|---|---|---|---|\n"
        "| cmrc2018 | dev | m | 80.500(81.000) | 0.707 | 61.000(62.000) | 1.414 | 2 (1 unfinished) |\n"
    )


def test_columns_are_the_metrics_that_select_the_checkpoint():
    """A task with neither F1 nor EM ends training with its own row."""
    values = {"accuracy": 50.0, "mrr": 60.0, "of no interest": 1.0}
    ((row,),) = read(leaderboard_of(rows_of([record(1, values, selection=("accuracy", "mrr"))])))
    assert row == {
        "task": "cmrc2018",
        "split": "dev",
        "model": "m",
        "accuracy:mean(max)": "50.000(50.000)",
        "sd 1": "-",
        "MRR:mean(max)": "60.000(60.000)",
        "sd 2": "-",
        "seeds": "1",
    }


def test_tasks_of_other_metrics_have_a_table_of_their_own():
    rows = [
        *rows_of([record(1, {"accuracy": 7.0}, ("accuracy",), task="c3")]),
        *rows_of([record(1, {"em": 1.0, "f1": 2.0})]),
        *rows_of([record(1, {"em": 3.0, "f1": 4.0}, task="drcd")]),
        *rows_of([record(1, None, ("accuracy",), task="tnews")]),
    ]
    accuracy, spans = read(leaderboard_of(rows))
    assert [(row["task"], row["accuracy:mean(max)"]) for row in accuracy] == [("c3", "7.000(7.000)"), ("tnews", "-")]
    assert [(row["task"], row["F1:mean(max)"], row["EM:mean(max)"]) for row in spans] == [
        ("cmrc2018", "2.000(2.000)", "1.000(1.000)"),
        ("drcd", "4.000(4.000)", "3.000(3.000)"),
    ]


def test_metric_that_a_seed_lacks_is_a_dash_and_no_error():
    ((row,),) = read(leaderboard_of(rows_of([record(1, {"f1": 80.0})])))
    assert (row["F1:mean(max)"], row["EM:mean(max)"]) == ("80.000(80.000)", "-")


def test_frameworks_are_told_apart():
    records = [record(1, {"em": 60.0, "f1": 80.0}, config={"framework": name}) for name in ("pytorch", "tensorflow")]
    assert [rows_of([each])[0].model for each in records] == ["m", "m, tensorflow"]


def _run(f1, weights, given, run, **changes):
    config = {"model_name_or_path": given}
    return rows_of([record(1, {"em": 0.0, "f1": f1}, config=config, hashes={"checkpoint": weights}, **changes)], run)


def test_two_models_of_one_name_are_told_apart_by_how_they_were_typed():
    rows = [*_run(3.0, "1a", "first/model", "runs/1"), *_run(2.0, "2b", "second/model", "runs/2")]
    assert names(leaderboard_of(rows)) == ["m (first/model)", "m (second/model)"]


def test_two_runs_of_one_model_are_told_apart_by_their_directories():
    rows = [
        *_run(3.0, "1a", "bert", "runs/1"),
        *_run(2.0, "1a", "bert", "runs/2"),
        *_run(1.0, "2b", "x", "", model="n"),
    ]
    assert names(leaderboard_of(rows)) == ["m (runs/1)", "m (runs/2)", "n"]


def test_other_weights_under_the_same_path_are_told_apart_by_the_run():
    rows = [*_run(3.0, "1a", "bert", "runs/1"), *_run(2.0, "2b", "bert", "runs/2")]
    assert names(leaderboard_of(rows)) == ["m (runs/1)", "m (runs/2)"]


def test_one_model_keeps_its_name_on_every_split_and_task():
    rows = _run(2.0, "1a", "bert", "runs/1") + _run(1.0, "1a", "other/bert", "runs/2", task="drcd")
    rows.append(replace(rows[0], split="test"))
    assert names(leaderboard_of(rows)) == ["m", "m", "m"]


def test_two_models_of_one_name_are_told_apart_on_different_tasks_too():
    rows = _run(2.0, "1a", "first/model", "runs/1") + _run(1.0, "2b", "second/model", "runs/2", task="drcd")
    assert names(leaderboard_of(rows)) == ["m (first/model)", "m (second/model)"]


def test_one_seed_has_no_standard_deviation():
    assert (mean_max([5.0]), standard_deviation([5.0])) == ("5.000(5.000)", "-")


def test_best_row_comes_first_and_a_run_without_scores_is_shown():
    rows = [
        *_run(1.0, "1", "", "", model="low"),
        *_run(2.0, "2", "", "", model="high"),
        *rows_of([record(1, model="none")]),
    ]
    (table,) = read(leaderboard_of(rows))
    assert [row["model"] for row in table] == ["high", "low", "none"]
    assert (table[2]["F1:mean(max)"], table[2]["seeds"]) == ("-", "0 (1 unfinished)")


def test_leaderboard_command_prints_the_table_that_it_writes(tmp_path, capsys):
    for name, f1 in (("a", 80.0), ("b", 81.5)):
        (tmp_path / name / "seed_1").mkdir(parents=True)
        record(1, {"em": 60.0, "f1": f1}).write(tmp_path / name / "seed_1")
    runs = [str(tmp_path / name) for name in "ab"]
    assert main(["leaderboard", *runs, "--output", str(tmp_path / "t.md")]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "t.md").read_text()
    (table,) = read(printed)
    assert [(row["model"], row["F1:mean(max)"]) for row in table] == [
        (f"m ({runs[1]})", "81.500(81.500)"),
        (f"m ({runs[0]})", "80.000(80.000)"),
    ]


@pytest.mark.parametrize(("runs", "expected"), [(["."], "not a run directory"), ([], "give RUNS")])
def test_leaderboard_of_nothing_is_one_line(runs, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard", *runs]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert expected in error


def test_columns_of_text_stand_below_each_other_whatever_the_width_of_their_characters():
    assert list(aligned(("name", "n", "end"), [("中文", "1", "x"), ("abc", "123", "")], right=("n",))) == [
        "name    n  end",
        "中文    1  x",
        "abc   123",
    ]


def test_bar_in_a_cell_does_not_end_it():
    assert markdown(["a"], [["x|y"]]).splitlines()[2] == r"| x\|y |"
