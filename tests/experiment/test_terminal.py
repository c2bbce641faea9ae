"""What is printed is what was said, and messages arrive where they were sent, also beside progress bars."""

from __future__ import annotations

import ast
import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

import experiment.cli
import experiment.commands.predict
import experiment.inputs.data
from experiment.cli import main
from experiment.io.terminal import Bars, terminal
from preprocess.base.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
TEXT = "比例尺1:100:000 /data/:dog:/x [bold]y[/bold]"


def _on_a_terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=80)


@pytest.fixture
def bars():
    return Bars(_on_a_terminal())


def _shown(bars):
    """Return the lines of bars that the terminal shows now."""
    console = Console(file=io.StringIO(), width=120)
    console.print(bars._bars.get_renderable())
    return console.file.getvalue().splitlines()


def test_text_is_printed_as_it_is(capsys):
    console, table = terminal(), Table(TEXT, title=TEXT)
    table.add_row(TEXT)
    console.print(TEXT)
    console.print(table)
    assert capsys.readouterr().out.count(TEXT) == 4


def test_quiet_terminal_says_nothing_and_shows_no_bars(capsys):
    console = terminal(quiet=True)
    console.print(TEXT)
    assert Bars(console)._bars.disable and capsys.readouterr().out == ""


def test_no_other_module_builds_a_console():
    """Another console would take text for markup, break lines, and print over the bars."""
    builders = set()
    for path in (ROOT / "experiment").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        calls = [node.func for node in nodes if isinstance(node, ast.Call)]
        names = {call.id if isinstance(call, ast.Name) else getattr(call, "attr", "") for call in calls}
        if names & {"Console", "Progress", "get_console"}:
            builders.add(path.relative_to(ROOT).as_posix())
    assert builders == {"experiment/io/terminal.py"}


def test_description_of_a_bar_is_shown_as_it_is(bars):
    with bars.counting(TEXT, 1):
        (shown,) = _shown(bars)
    assert shown.startswith(TEXT)


def test_inner_bar_stands_below_and_goes_when_its_work_is_done(bars):
    with bars.counting("seed 1", 6, done=2) as advance:
        advance()
        for item in bars.tracked("dev", "abcd"):
            if item == "c":
                first, second = _shown(bars)
        assert first.startswith("seed 1 ") and "3/6" in first
        assert second.startswith("dev ") and "2/4" in second
        (only,) = _shown(bars)
        assert "3/6" in only


def test_work_given_up_leaves_no_bar(bars):
    with bars.counting("seed 1", 6):
        for _ in bars.tracked("dev", "abcd"):
            break
        assert len(_shown(bars)) == 1
    assert _shown(bars) == [] and not bars._bars.live.is_started


def test_lines_appear_above_and_only_they_where_the_output_is_no_terminal():
    console = Console(file=io.StringIO())
    bars = Bars(console)
    with bars.counting("seed 1", 2) as advance:
        console.print("a line")
        advance()
    assert console.file.getvalue() == "a line\n"


def _fail_while_tracked(bars):
    for _ in bars.tracked("dev", "abcd"):
        raise ValueError("in the middle")


def test_error_leaves_no_bar_although_its_traceback_lives(bars):
    with pytest.raises(ValueError, match="in the middle") as caught, bars:
        _fail_while_tracked(bars)
    assert caught.tb is not None and not bars._bars.live.is_started and bars._bars.tasks == []


def test_bar_goes_with_that_of_the_outer_block_and_takes_no_later_one(bars):
    with bars.counting("seed 1", 6):
        left = bars.tracked("dev", "abcd")  # as an error leaves it: begun, and held by the traceback
        next(left)
    assert bars._bars.tasks == [] and not bars._bars.live.is_started
    with bars.counting("seed 2", 6):
        left.close()  # as when the traceback goes
        assert [task.description for task in bars._bars.tasks] == ["seed 2"]


def test_predict_stops_its_bar_before_the_error_is_printed(flags, corpus, tmp_path, monkeypatch):
    assert main(flags(corpus, tmp_path / "run", "--num_train_epochs", "1", "--seeds", "1")) == 0
    bars, started = [], []

    class Watched(Bars):
        def __init__(self, _console):
            super().__init__(_on_a_terminal())
            bars.append(self)

    def fail(*_):
        started.append(bars[0]._bars.live.is_started)
        raise DataError("no window")

    monkeypatch.setattr(experiment.commands.predict, "Bars", Watched)
    monkeypatch.setattr(experiment.inputs.data, "collate", fail)
    monkeypatch.setattr(experiment.cli, "_complain", lambda _: started.append(bars[0]._bars.live.is_started))
    checkpoint = tmp_path / "run" / "seed_1" / "checkpoint-best"
    options = ("--test_file", str(corpus.data), "--output_dir", str(tmp_path / "out"), "--feature_cache_dir", "None")
    assert main(["predict", "--task", "cmrc2018", "--model_name_or_path", str(checkpoint), *options]) == 2
    assert started == [True, False]


_PROGRAM = """
import sys
from experiment.io.terminal import Bars, terminal
with Bars(terminal()).counting("seed 1", 3):
    print("a warning", file=sys.stderr)
"""


@pytest.mark.parametrize("redirected", [True, False])
def test_message_beside_a_bar_goes_where_stderr_goes(tmp_path, redirected):
    screen, tty = pty.openpty()
    with (tmp_path / "err").open("wb") as file:
        stderr = file if redirected else tty
        environment = {**os.environ, "TERM": "xterm"}
        subprocess.run(
            [sys.executable, "-c", _PROGRAM], cwd=ROOT, env=environment, stdout=tty, stderr=stderr, check=True
        )
    os.close(tty)
    shown = os.read(screen, 1 << 16).decode()
    os.close(screen)
    assert "seed 1" in shown and ("a warning" in shown) is not redirected
    assert (tmp_path / "err").read_text() == ("a warning\n" if redirected else "")
