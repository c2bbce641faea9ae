"""A whole table at once: models x tasks x frameworks x seeds, each cell trained by a process of its own."""

from __future__ import annotations

import time

from experiment.estimate.hardware import device_named, known_device
from experiment.grid.cells import cells_of, read_cells, runs_of, write_cells
from experiment.grid.checking import check, set_aside
from experiment.grid.outlook import outlook
from experiment.grid.run import alone, gpu_names, train_cells, visible_devices
from experiment.grid.status import FAILED, FINISHED, lines_of, progress_of
from experiment.io.outputs import check_directory
from experiment.io.terminal import terminal
from experiment.options.flags import GridOptions
from experiment.report.table import leaderboard
from experiment.training.record import seed_records
from preprocess.base.errors import UsageError
from preprocess.base.files import write_text

#: Seconds between two looks of --watch.
_WATCH_EVERY_S = 5.0


def grid(options: GridOptions) -> int:
    """Train the cells that are not finished, one after another on each device, and print the leaderboard.

    Returns:
        the exit status: 1 if there are cells that have failed, or can't be planned.

    Raises:
        UsageError, DataError, CheckpointError: for a grid that can't be trained, before anything is.
        KeyboardInterrupt: for Ctrl-C and SIGTERM; the same command goes on.
    """
    if options.watch and not options.status:
        raise UsageError("--watch goes with --status")
    if options.status:
        return _status(options)
    check_directory("--output_dir", options.output_dir)
    runs = runs_of(options)
    if options.dry_run:
        devices = options.devices or visible_devices()
        gpu = device_named(options.gpu) or known_device(gpu_names())
        lines, ready = outlook(runs, devices, gpu)
        for line in lines:
            print(line)
        return 0 if ready else 1
    say = terminal().print
    with alone(options.output_dir):
        checked = check(runs)
        for line in set_aside(checked, options.retrain_changed):
            say(line)
        cells = cells_of(runs)
        write_cells(options.output_dir, cells)
        train_cells(cells, options, say)
        directories = [run.directory for run in runs if seed_records(run.directory)]
        if directories:
            table = leaderboard(directories)
            write_text(options.output_dir / "leaderboard.md", table)
            say()
            say(table)
        failed = [cell for cell in cells if progress_of(cell).state == FAILED]
        if failed:
            say(f"{len(failed)} cells have failed; --status says why, and --retry_failed trains them once more")
        return 1 if failed else 0


def _status(options: GridOptions) -> int:
    """Print how far the grid is; with --watch until nothing is left to be trained."""
    while True:
        cells = read_cells(options.output_dir)
        console = terminal()
        console.clear()
        for line in lines_of(cells):
            console.print(line)
        ended = all(progress_of(cell).state in (FINISHED, FAILED) for cell in cells)
        if ended or not options.watch:
            return 0
        time.sleep(_WATCH_EVERY_S)
