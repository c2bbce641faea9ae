"""A whole grid: its plan, how far it is, and its training up to the table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from experiment.estimate.hardware import device_named, known_device
from experiment.grid.cells import GridRun, cells_of, read_cells, write_cells
from experiment.grid.checking import check, set_aside
from experiment.grid.outlook import outlook
from experiment.grid.run import alone, gpu_names, train_cells, visible_devices
from experiment.grid.status import FAILED, FINISHED, lines_of, progress_of
from experiment.io.terminal import terminal
from experiment.options.flags import GridOptions
from experiment.report.remarks import remarks, with_remarks
from experiment.report.table import leaderboard
from experiment.training.record import seed_records
from preprocess.base.files import write_text

TABLE_FILE = "leaderboard.md"
#: Seconds between two looks of --watch.
_WATCH_EVERY_S = 5.0


def planned(runs: Sequence[GridRun], options: GridOptions) -> int:
    """Print what the runs will take; returns the exit status, 1 if some can't be planned."""
    devices = options.devices or visible_devices()
    gpu = device_named(options.gpu) or known_device(gpu_names())
    lines, ready = outlook(runs, devices, gpu)
    for line in lines:
        print(line)
    return 0 if ready else 1


def train_table(
    runs: Sequence[GridRun], options: GridOptions, say: Callable[..., None], files: Mapping[str, str] | None = None
) -> int:
    """Train the cells that are not finished, one after another on each device, and write the leaderboard.

    Args:
        runs: of the grid.
        options: of the grid.
        say: gets the lines.
        files: name -> text, written into its directory when it is known to be in order.

    Returns:
        the exit status: 1 if there are cells that have failed, or were told to stop.

    Raises:
        UsageError, DataError, CheckpointError: for a grid that can't be trained, before anything is.
        KeyboardInterrupt: for Ctrl-C and SIGTERM; the same command goes on.
    """
    with alone(options.output_dir):
        checked = check(runs)
        for line in set_aside(checked, options.retrain_changed):
            say(line)
        cells = cells_of(runs)
        write_cells(options.output_dir, cells)
        for name, text in (files or {}).items():
            write_text(options.output_dir / name, text)
        train_cells(cells, options, say)
        directories = [run.directory for run in runs if seed_records(run.directory)]
        if directories:
            said = remarks(directories, options.output_dir)
            write_text(options.output_dir / TABLE_FILE, with_remarks(leaderboard(directories), said))
        n_in = Counter(progress_of(cell).state for cell in cells)
        if n_in[FAILED]:
            say(f"{n_in[FAILED]} cells have failed; --status says why, and --retry_failed trains them once more")
        n_stopped = len(cells) - n_in[FINISHED] - n_in[FAILED]
        if n_stopped:
            say(f"{n_stopped} cells were told to stop before they were finished; the same command goes on with them")
        return 1 if n_in[FAILED] or n_stopped else 0


def grid_status(options: GridOptions) -> int:
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
