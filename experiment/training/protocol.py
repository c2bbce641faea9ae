"""The protocol over seeds: one run directory, one Record per seed, one leaderboard row."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from experiment.backend import by_first
from experiment.options.flags import TrainOptions
from experiment.report.table import leaderboard
from experiment.training import rundir
from experiment.training.build import rehearse
from experiment.training.checkpoints import ASIDE, Checkpoints, Saved
from experiment.training.hooks import HookFactory
from experiment.training.job import Job
from experiment.training.prepare import prepare
from experiment.training.record import FILE_NAME, Record, read_record, seed_directory
from experiment.training.rundir import BEST
from experiment.training.runlog import RunLog
from experiment.training.seed import run_seed
from preprocess.base.files import write_json, write_text


def train(options: TrainOptions, methods: Sequence[HookFactory] = ()) -> list[Record]:
    """Run all seeds that are not finished yet, and print the leaderboard row.

    Several processes (torchrun) do all of it together, and the first one alone writes and prints.

    Args:
        options: as typed.
        methods: make hooks, for each seed anew, that are attached to its loop.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used, before anything is trained
            or any file of an older run is touched.
    """
    job, lines, reports = prepare(options)
    directory = job.options.output_dir
    lines += by_first(job.group, lambda: rundir.check(job.options, job.record_fields["hashes"], job.n_devices))
    if by_first(job.group, lambda: rundir.deletes(job.options)):
        rehearse(job)

    def begin() -> None:
        rundir.prepare(job.options)
        write_json(directory / "data_report.json", reports)

    by_first(job.group, begin)
    log = RunLog(directory / "run.log" if job.group.rank == 0 else None)
    for line in lines:
        log.line(line)
    with log.bars:
        records = [_one_seed(job, seed, log, methods) for seed in job.options.seeds]
    if job.group.rank == 0:
        log.console.print()
        # All seeds of the directory: some may have been trained by other commands.
        table = leaderboard([directory])
        write_text(directory / "leaderboard.md", table)
        log.console.print(table)
    return records


def _one_seed(job: Job, seed: int, log: RunLog, methods: Sequence[HookFactory]) -> Record:
    directory = seed_directory(job.options.output_dir, seed)
    checkpoints = Checkpoints(directory, BEST, job.options.save_total_limit, log.line)
    with contextlib.ExitStack() as held:

        def take_up() -> tuple[Record | None, Saved | None]:
            """Return the Record of a finished seed, or else what to go on from, if there is something."""
            directory.mkdir(exist_ok=True)
            held.enter_context(rundir.lock(directory, "give this one other --seeds"))
            status = rundir.status(job.options.output_dir, seed)
            if status in ("finished", "not started"):
                checkpoints.remove()  # a process was killed before it could
            if status == "finished":
                log.line(f"seed {seed}: finished before, kept")
                return read_record(directory / FILE_NAME), None
            saved = checkpoints.load()
            if saved is not None:
                rundir.tidy(directory)
            elif status != "not started":
                log.line(f"seed {seed}: {status} before, started anew")
                rundir.clear(directory, keep=(ASIDE,))
            return None, saved

        finished, saved = by_first(job.group, take_up)
        return finished or run_seed(job, seed, directory, log, checkpoints, saved, methods)
