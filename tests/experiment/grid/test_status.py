"""How far a grid is: told from what lies on the disk, by whoever looks."""

from __future__ import annotations

import json

import pytest

from experiment.cli import main
from experiment.grid.cells import Cell, write_cells
from experiment.grid.status import exit_line, lines_of, progress_of, remaining_s, summary
from preprocess.base.files import locked

RECORD = {
    "task": "cmrc2018", "task_version": "1", "model": "m",
    "config": {}, "selection": [], "hashes": {}, "versions": {},
}  # fmt: skip


@pytest.fixture
def cell(tmp_path):
    """Return a function that makes a cell with a Record and a log."""

    def make(run="a", seed=1, log=None, **record):
        cell = Cell(tmp_path, run, seed, ("train", "--seeds", str(seed)))
        if record:
            cell.directory.mkdir(parents=True)
            entries = [{"step": record.pop("step")}] if "step" in record else []
            values = {**RECORD, "seed": seed, "evaluations": entries, "wall_s": 0.0, **record}
            (cell.directory / "record.json").write_text(json.dumps(values))
        if log is not None:
            cell.log.parent.mkdir(exist_ok=True)
            cell.log.write_text(f"started train\n{log}")
        return cell

    return make


@pytest.mark.parametrize(
    ("record", "log", "state", "error"),
    [
        ({}, None, "waiting", ""),
        ({}, "", "waiting", ""),
        ({}, "error: no such file\n" + exit_line(2), "failed", "no such file"),
        ({}, exit_line(-9), "failed", "its process was killed by signal 9"),
        ({"status": "finished"}, exit_line(0), "finished", ""),
        ({"status": "finished"}, None, "finished", ""),  # by hand
        ({"status": "failed", "error": "ValueError: x"}, exit_line(1), "failed", "ValueError: x"),
        ({"status": "interrupted", "error": "KeyboardInterrupt: "}, exit_line(130), "interrupted", ""),
        ({"status": "running"}, "seed 1 step 5/9\n", "interrupted", ""),  # killed together with the grid
        ({"status": "running"}, "error: no room\n" + exit_line(2), "failed", "no room"),
        ({"status": "running"}, exit_line(-9), "failed", "its process was killed by signal 9"),
    ],
)
def test_a_cells_state_is_that_of_its_record_and_of_its_last_process(cell, record, log, state, error):
    progress = progress_of(cell(log=log, **record))
    assert (progress.state, progress.error) == (state, error)


def test_a_cell_that_a_process_holds_is_running_whatever_it_was_before(cell):
    begun = [cell("a", status="running"), cell("b", status="failed", log=""), cell("c", status="interrupted", log="")]
    for each in begun:
        before = progress_of(each).state
        with locked(each.directory):
            assert progress_of(each).state == "running" != before


def test_a_record_that_cannot_be_read_is_a_failure_and_not_the_end_of_the_status(cell, tmp_path):
    broken = cell(status="finished")
    (broken.directory / "record.json").write_text("{")
    assert progress_of(broken).state == "failed"
    assert any(line.startswith("failed: a seed 1: ") for line in lines_of([broken]))


def test_the_time_that_is_left_is_that_of_the_same_run_and_else_of_any(cell):
    cells = [
        cell("a", 1, status="finished", n_steps=10, wall_s=100.0),
        cell("a", 2, status="running", n_steps=10, step=4, wall_s=60.0),  # 150 in all, 90 left
        cell("a", 3),  # like the others of its run: 125
        cell("b", 1, status="finished", n_steps=10, wall_s=50.0),
        cell("b", 2, log="error: x\n" + exit_line(2)),  # which is passed over
        cell("c", 1),  # like any: (100 + 150 + 50) / 3
    ]
    with locked(cells[1].directory):
        progress = {each: progress_of(each) for each in cells}
    assert remaining_s(progress) == pytest.approx(90 + 125 + 100)
    line = summary(progress, now=0.0)
    assert line.startswith("6 cells: 2 finished, 1 running, 1 failed, 2 waiting; about 0.09 hours to go")
    assert remaining_s({each: progress_of(each) for each in cells[-1:]}) is None


def test_watch_looks_until_nothing_is_left(cell, tmp_path, monkeypatch, capsys):
    last = cell("a", 2, log="")
    write_cells(tmp_path, [cell("a", 1, status="finished", n_steps=10), last])
    looks = []

    def wait(seconds):
        looks.append(seconds)
        last.log.write_text("error: no room\n" + exit_line(2))

    monkeypatch.setattr("experiment.grid.table.time.sleep", wait)
    assert main(["grid", "--status", "--watch", "--output_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert len(looks) == 1 and "2 cells: 1 finished, 1 waiting\n" in out
    assert f"failed: a seed 2: no room ({last.log})" in out
