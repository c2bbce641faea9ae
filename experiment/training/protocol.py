"""The protocol over seeds: one run directory, one Record per seed, one leaderboard row."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiment.backend import by_first
from experiment.options.flags import TrainOptions
from experiment.report.remarks import remarks, with_remarks
from experiment.report.table import leaderboard
from experiment.training import rundir
from experiment.training.build import rehearse
from experiment.training.checkpoints import ASIDE, Checkpoints, Saved
from experiment.training.hooks import HookFactory
from experiment.training.prepare import prepare
from experiment.training.record import FILE_NAME, PRUNED, Record, read_record, seed_directory
from experiment.training.rundir import BEST
from experiment.training.runlog import RunLog
from experiment.training.seed import directory_of, run_seed
from experiment.training.setup import RunSetup
from preprocess.base.files import write_json, write_text


def train(options: TrainOptions, methods: Sequence[HookFactory] = ()) -> list[Record]:
    """Run all seeds that are not finished yet, and print the leaderboard row.

    Several processes (torchrun) do all of it together, and the first one alone writes and prints.

    Args:
        options: as typed.
        methods: make hooks, for each seed anew, that are attached to its loop. Where one gives a seed up, those after
            it are not begun.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used, before anything is trained
            or any file of an older run is touched.
    """
    return run_seeds(*prepare(options), methods)


def run_seeds(
    setup: RunSetup, lines: Sequence[str], reports: Mapping[str, Any], methods: Sequence[HookFactory] = ()
) -> list[Record]:
    """Run all seeds of what was prepared; see `train`.

    Args:
        setup: what they share.
        lines: to print before.
        reports: on the data, by split.
        methods: as for `train`.

    Raises:
        UsageError: if the run directory is in use.
    """
    directory = setup.options.output_dir
    if by_first(setup.group, lambda: rundir.deletes(setup.options)):
        rehearse(setup)

    def begin() -> None:
        rundir.prepare(setup.options)
        write_json(directory / "data_report.json", reports)

    by_first(setup.group, begin)
    log = RunLog(directory / "run.log" if setup.group.rank == 0 else None)
    for line in lines:
        log.line(line)
    with log.bars:
        records = []
        for seed in setup.options.seeds:
            records.append(_one_seed(setup, seed, log, methods))
            if records[-1].status == PRUNED:
                break
    if setup.group.rank == 0:
        log.console.print()
        # All seeds of the directory: some may have been trained by other commands.
        table = with_remarks(leaderboard([directory]), remarks([directory], directory))
        write_text(directory / "leaderboard.md", table)
        log.console.print(table)
    return records


def _one_seed(setup: RunSetup, seed: int, log: RunLog, methods: Sequence[HookFactory]) -> Record:
    directory = seed_directory(setup.options.output_dir, seed)
    own = {rule.task: directory_of(directory, rule.task) for rule in setup.rules if rule.task}
    bests = {task: place / BEST for task, place in own.items()}
    checkpoints = Checkpoints(directory, BEST, setup.options.save_total_limit, log.line, bests)
    with contextlib.ExitStack() as held:

        def take_up() -> tuple[Record | None, Saved | None]:
            """Return the Record of a finished seed, or else what to go on from, if there is something."""
            for place in (directory, *own.values()):
                place.mkdir(parents=True, exist_ok=True)
            held.enter_context(rundir.lock(directory, "give this one other --seeds"))
            status = rundir.status(setup.options.output_dir, seed)
            if status == "finished" or rundir.overwrites(setup.options):
                checkpoints.remove()  # a process was killed before it could, or they are of a seed without a Record
            if status == "finished":
                log.line(f"seed {seed}: finished before, kept")
                return read_record(directory / FILE_NAME), None
            saved = checkpoints.load()
            if saved is not None:
                rundir.tidy(directory)
            elif status != "not started":
                log.line(f"seed {seed}: {status} before, started anew")
                rundir.clear(directory, keep=(ASIDE,))
                for place in own.values():
                    place.mkdir(parents=True, exist_ok=True)
            return None, saved

        finished, saved = by_first(setup.group, take_up)
        return finished or run_seed(setup, seed, directory, log, checkpoints, saved, methods)
