"""A whole table at once: models x tasks x frameworks x seeds, each cell trained by a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

from experiment.grid.cells import runs_of
from experiment.grid.table import TABLE_FILE, grid_status, planned, train_table
from experiment.io.outputs import check_directory
from experiment.io.terminal import terminal, warn
from experiment.options.flags import GridOptions
from experiment.training.record import seed_records
from preprocess.base.errors import UsageError


def grid(options: GridOptions) -> int:
    """Train the cells that are not finished, one after another on each device, and print the leaderboard.

    Returns:
        the exit status: 1 if there are cells that are not finished, or can't be planned.

    Raises:
        UsageError, DataError, CheckpointError: for a grid that can't be trained, before anything is.
        KeyboardInterrupt: for Ctrl-C and SIGTERM; the same command goes on.
    """
    if options.watch and not options.status:
        raise UsageError("--watch goes with --status")
    if options.status and options.dry_run:
        raise UsageError("--status and --dry_run: give one of them")
    if options.status:
        return grid_status(options)
    warn(_without_effect(options))
    check_directory("--output_dir", options.output_dir)
    runs = runs_of(options)
    if options.dry_run:
        return planned(runs, options)
    say = terminal().print
    status = train_table(runs, options, say)
    if any(seed_records(run.directory) for run in runs):
        say()
        say((options.output_dir / TABLE_FILE).read_text(encoding="utf-8"))
    return status


def _without_effect(options: GridOptions) -> Iterator[str]:
    """Yield what is said of options that nothing comes of: a file holds them for all ways to train its grid."""
    if options.gpu is not None and not options.dry_run:
        yield "--gpu says what --dry_run plans for; without that it changes nothing"
    of_clusters = options.gpus_per_cell is not None or options.cpus_per_cell != GridOptions.cpus_per_cell
    if options.executor == "local" and (of_clusters or options.executor_options):
        yield (
            "--gpus_per_cell, --cpus_per_cell and --executor_options are for ray and submitit; here --devices says "
            "who trains"
        )
    if options.executor != "local" and options.devices:
        yield f"--devices is for --executor local; of {options.executor} each cell asks for --gpus_per_cell"
