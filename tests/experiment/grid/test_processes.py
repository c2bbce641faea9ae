"""Processes that train cells: whoever of them dies, in the end the table is that of an undisturbed grid."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.kill import digest
from experiment.cli import main
from experiment.grid.cells import Cell, cells_of, read_cells, runs_of
from experiment.grid.clusters import Ray, Submitit
from experiment.grid.executors import Local
from experiment.grid.run import train_cells
from experiment.grid.status import FINISHED, INTERRUPTED, RUNNING, progress_of
from experiment.options.arguments import split, understand
from experiment.options.flags import GridOptions

ROOT = Path(__file__).resolve().parents[3]
CMRC, DRCD = "tiny.cmrc2018.pytorch", "tiny.drcd.pytorch"
#: Long enough to be killed in the middle.
LONGER = "  cmrc2018: {num_train_epochs: 20, eval_epochs: 20}\n"


def _cells(arguments) -> tuple[list[Cell], GridOptions]:
    options = understand(split(arguments[1:], GridOptions), GridOptions)
    return cells_of(runs_of(options)), options


def _until(condition, seconds=120.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.02)


def _children(directory) -> list[int]:
    """Return the processes that train a cell."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"experiment.grid.worker" in words and os.fsencode(directory) in words:
            found.append(int(path.name))
    return found


def _is_saved(cell) -> bool:
    return any(cell.directory.glob("resume/[!.]*/checksums.json"))


def test_a_worker_that_is_killed_goes_on_from_its_checkpoint(write, tmp_path):
    (cell, other), options = _cells(write(extra=LONGER))
    said, killed = [], []

    class Killing(Local):
        """Kills the first worker once, when it has something to go on from."""

        def ended(self):
            if not killed and _is_saved(cell):
                assert progress_of(cell).state == RUNNING and progress_of(other).state == "waiting"
                killed.extend(_children(cell.directory))
                os.kill(killed[0], signal.SIGKILL)
            return super().ended()

    train_cells([cell], options, said.append, Killing(["cpu"]))
    assert len(killed) == 1 and "its process was killed by signal 9; it goes on" in said[1]
    assert progress_of(cell).state == FINISHED
    assert "seed 1: goes on after step" in cell.log.read_text()
    # What a worker says it says to its log, from which one can start it by hand.
    assert "started train --train_file=" in cell.log.read_text()


@pytest.mark.soak
def test_workers_of_a_killed_grid_end_by_themselves_and_the_same_command_goes_on(write, tmp_path, capsys):
    command = write(extra=LONGER)
    cells, _ = _cells(command)
    program = [sys.executable, str(ROOT / "run_mrc.py"), *command]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    _until(lambda: _is_saved(cells[0]))
    process.kill()
    process.wait()
    # SIGTERM has reached the worker: it leaves a checkpoint and lets go of the seed.
    _until(lambda: not _children(cells[0].directory))
    assert progress_of(cells[0]).state == INTERRUPTED
    assert main([*command, "--status"]) == 0
    assert "2 cells: 1 interrupted, 1 waiting" in capsys.readouterr().out
    # SIGTERM to the grid: its worker, too, leaves a checkpoint.
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    _until(lambda: progress_of(cells[0]).state == RUNNING)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command goes on" in said
    assert not _children(cells[0].directory) and progress_of(cells[0]).state == INTERRUPTED
    assert read_cells(tmp_path / "table") == cells


def _digests(grid):
    """Return the digests of all runs of a grid, whose logs and tables' places differ."""
    return {path.name: digest(path) for path in sorted(grid.iterdir()) if (path / "config.yaml").is_file()}


#: Two models, two tasks and two seeds.
SOAK = ["--config_names", "other={model}", "tiny={model}", "--seeds", "1", "2"]


@pytest.fixture
def soak(write, grid_corpus):
    def command(output):
        flags = [text.format(model=grid_corpus.model) for text in SOAK]
        return [*write(output, extra="  tiny: {num_train_epochs: 8}\n"), *flags, "--devices", "cpu", "cpu"]

    return command


@pytest.mark.soak
def test_a_grid_killed_at_random_moments_ends_with_the_table_of_an_undisturbed_one(soak, tmp_path):
    program = [sys.executable, str(ROOT / "run_mrc.py")]
    started = time.perf_counter()
    assert subprocess.run([*program, *soak("quiet")], stdout=subprocess.DEVNULL, check=False).returncode == 0
    took = time.perf_counter() - started
    moments = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen([*program, *soak("killed")], stdout=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.1, 0.6) * took)
        process.kill()
        process.wait()
    assert subprocess.run([*program, *soak("killed")], stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert _digests(tmp_path / "killed") == _digests(tmp_path / "quiet")
    assert len(_digests(tmp_path / "quiet")) == 4
    quiet, killed = ((tmp_path / name / "leaderboard.md").read_text() for name in ("quiet", "killed"))
    assert killed == quiet.replace("/quiet/", "/killed/")


@pytest.mark.soak
def test_under_ray_a_killed_task_goes_on_and_the_scores_are_the_same(soak, tmp_path):
    pytest.importorskip("ray")
    assert main(soak("quiet")) == 0
    cells, options = _cells(soak("ray"))
    killed = []

    class Killing(Ray):
        """Kills Ray's own worker process, as when a node is lost, and with it the cell's process."""

        def ended(self):
            for cell in cells:
                if not killed and _is_saved(cell) and (workers := _children(cell.directory)):
                    killed.append(_parent(workers[0]))
                    os.kill(killed[0], signal.SIGKILL)
            return super().ended()

    said = []
    train_cells(cells, options, said.append, Killing(0, 1, {"num_cpus": 2}))
    assert killed and sum("it goes on" in line for line in said) == 1
    assert _digests(tmp_path / "ray") == _digests(tmp_path / "quiet")


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.soak
def test_under_submitit_a_preempted_job_goes_on(write, tmp_path):
    LocalJobEnvironment = pytest.importorskip("submitit.local.local").LocalJobEnvironment
    cells, options = _cells(write(extra=LONGER))
    interrupted = []

    class Interrupting(Submitit):
        """Sends the signal that Slurm sends before it takes a job's node away."""

        def ended(self):
            if not interrupted and _is_saved(cells[0]):
                interrupted.append(_parent(_children(cells[0].directory)[0]))
                os.kill(interrupted[0], LocalJobEnvironment._usr_sig())
            return super().ended()

    said = []
    executor = Interrupting(options.output_dir, 0, 1, {"cluster": "local", "timeout_min": 10})
    train_cells(cells, options, said.append, executor)
    assert interrupted and [progress_of(cell).state for cell in cells] == [FINISHED, FINISHED]
    assert "seed 1: goes on after step" in cells[0].log.read_text()
    record = json.loads((cells[0].directory / "record.json").read_text())
    assert record["n_steps"] == record["evaluations"][-1]["step"]
