"""Progress bars: what a user sees of a long run, and that nothing of them is left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from experiment.terminal import Bars


@pytest.fixture
def bars():
    """Bars on a terminal."""
    return Bars(Console(file=io.StringIO(), force_terminal=True, width=80))


def _shown(bars):
    """Return the lines of bars that the terminal shows now."""
    console = Console(file=io.StringIO(), width=80)
    console.print(bars._bars.get_renderable())
    return console.file.getvalue().splitlines()


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
