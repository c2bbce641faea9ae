"""A grid of two tasks on a corpus of six questions, and a way to train it in this process."""

from __future__ import annotations

import pytest

from experiment.cli import main
from experiment.grid import run
from experiment.grid.status import exit_line
from tests.experiment.conftest import write_corpus

TEXT = """
output_dir: {output}
config_names: [tiny={model}]
tasks: [cmrc2018, drcd]
seeds: [1]
settings:
  all:
    train_file: {data}
    validation_file: {data}
    feature_cache_dir: {cache}
    max_seq_length: 64
    per_device_train_batch_size: 2
    num_train_epochs: 2
    learning_rate: 1e-3
    save_steps: 1
"""


class InThisProcess:
    """Trains cells one after another, without the seconds that a process takes to start.

    Args:
        fates: name of a cell to what its next processes do instead of training: (exit status, what they say).
        begun: gets the names of the cells, in the order in which they are begun.
    """

    def __init__(self, fates, begun):
        self._fates, self._begun, self._queue = fates, begun, []

    def add(self, cell):
        self._queue.append(cell)

    def ended(self):
        cell = self._queue.pop(0)
        self._begun.append(cell.name)
        cell.log.parent.mkdir(exist_ok=True)
        fates = self._fates.get(cell.name, [])
        status, said = fates.pop(0) if fates else (main(list(cell.arguments)), "trained")
        with cell.log.open("a", encoding="utf-8") as file:
            file.write(f"started\n{said}\n{exit_line(status)}")
        return [(cell, status)]

    def stop(self):
        self._queue.clear()


@pytest.fixture(scope="session")
def grid_corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("grid-corpus"))


@pytest.fixture
def write(grid_corpus, tmp_path):
    """Return a function that writes a grid's file and returns the command that trains it."""

    def arguments(output="table", extra=""):
        path = tmp_path / f"{output}.yaml"
        names = {"output": tmp_path / output, "model": grid_corpus.model, "data": grid_corpus.data}
        path.write_text(TEXT.format(**names, cache=grid_corpus.data.parent / "cache") + extra, encoding="utf-8")
        return ["grid", "--config", str(path)]

    return arguments


@pytest.fixture
def fates():
    return {}


@pytest.fixture
def begun(monkeypatch, fates):
    """Train the cells of every grid in this process; the names of those that were begun."""
    names = []
    monkeypatch.setattr(run, "executor_of", lambda options: InThisProcess(fates, names))
    return names
