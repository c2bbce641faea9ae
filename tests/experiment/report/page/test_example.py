"""The example of a report in docs/: made by the commands that docs/report.md names, and like what they make today."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from experiment.cli import main
from experiment.grid.cells import runs_of
from experiment.inputs.data import read_examples
from experiment.options.arguments import split, understand
from experiment.options.flags import GridOptions, ReportOptions
from tasks.core.discovery import get_task
from tests.support.answered import candidates, write_run
from tests.support.markup import Parsed

ROOT = Path(__file__).resolve().parents[4]
EXAMPLE = ROOT / "docs/example-report/index.html"
DEV = ROOT / "examples/corpus/demo_cjrc_dev.json"


@pytest.fixture
def commands():
    """The words of the two commands, without the program."""
    text = (ROOT / "docs/report.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```\n(python run_mrc\.py grid .*?)```", text, flags=re.DOTALL)
    return [shlex.split(line)[2:] for line in block.replace("\\\n", " ").splitlines()]


def _answers(wrong):
    """An n-best list for each question of dev; every `wrong`-th answer is the beginning of the text."""
    found = {}
    for number, example in enumerate(read_examples(get_task("cjrc"), DEV)[0]):
        right = example.answers[0].text if example.answers else ""
        first = example.context[:3] if number % wrong == 0 else right
        others = [text for text in (example.context[1:5], "") if text != first]
        found[example.id] = candidates((first, 0.7), *((text, 0.1) for text in others))
    return found


def _parts(page):
    parsed = Parsed(page)
    return parsed, json.loads(parsed.scripts[0])


def test_the_example_is_like_what_its_command_makes(commands, tmp_path, monkeypatch, capsys):
    """Of other answers to the same questions: what can't be trained in a second stands for what was."""
    grid, report = commands
    monkeypatch.chdir(ROOT)
    options = understand(split(report[1:], ReportOptions), ReportOptions)
    planned = runs_of(understand(split(grid[1:], GridOptions), GridOptions))
    assert {run.directory for run in planned} == set(options.runs) and options.output == EXAMPLE.parent.relative_to(
        ROOT
    )
    n_seeds = sum(len(run.options.seeds) for run in planned)
    made = [write_run(tmp_path / run.name, "cjrc", DEV, [_answers(5), _answers(7)]) for run in options.runs]
    assert main(["report", *map(str, made), *report[1 + len(made) :], "--output", str(tmp_path / "out")]) == 0
    now, data_now = _parts((tmp_path / "out/index.html").read_text(encoding="utf-8"))
    then, data_then = _parts(EXAMPLE.read_text(encoding="utf-8"))
    assert EXAMPLE.stat().st_size < 300_000
    assert then.headings == now.headings and then.tags["svg"] == now.tags["svg"]
    assert set(now.ids) - set(then.ids) == set()
    assert options.title in then.texts
    (set_now,), (set_then,) = data_now["sets"], data_then["sets"]
    assert set_then.keys() == set_now.keys() and data_then["mistakes"] == data_now["mistakes"]
    assert set_then["questions"] == set_now["questions"] and set_then["contexts"] == set_now["contexts"]
    systems = set_then["systems"]
    assert len(systems) == n_seeds == 4
    assert all(any(str(run) in system["model"] for system in systems) for run in options.runs)
    assert max(len(answer[-1]) for system in systems for answer in system["answers"]) == options.n_best
