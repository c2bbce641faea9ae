"""A base, each switch alone, and all together: a grid of one model and task, and what each row adds to the base."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from experiment.grid.around import GRID_FILE, grid_around, grid_options, grid_text
from experiment.grid.cells import GridRun, runs_of
from experiment.grid.switches import BASE, TOGETHER, switches_of, together
from experiment.grid.table import grid_status, planned, train_table
from experiment.io.outputs import check_directory
from experiment.io.terminal import terminal
from experiment.options.changed import changed, train_options
from experiment.options.fields import options_of
from experiment.options.flags import GridOptions, TrainOptions
from experiment.options.grid import GridView, GridWorkers
from experiment.options.methods import check_together
from experiment.options.searching import AblateOptions
from experiment.report.effects import effects
from experiment.report.entries import Entry
from experiment.report.measured import entries_of_run
from experiment.report.render.markdown import markdown
from experiment.training.record import seed_records
from preprocess.base.errors import UsageError
from preprocess.base.files import write_text

TABLE_FILE = "ablation.md"


def ablate(options: AblateOptions) -> int:
    """Train what is not finished, and print the table.

    Returns:
        the exit status: 1 if there are cells that have failed, or can't be planned.

    Raises:
        UsageError, DataError, CheckpointError: for what can't be trained, before anything is.
        KeyboardInterrupt: for Ctrl-C and SIGTERM; the same command goes on.
    """
    if options.watch and not options.status:
        raise UsageError("--watch goes with --status")
    if options.overwrite_output_dir:
        raise UsageError("--overwrite_output_dir: a grid deletes nothing; --retrain_changed renames what has changed")
    content = _content(options)
    shared = {field.name: getattr(options, field.name) for part in (GridWorkers, GridView) for field in fields(part)}
    grid = grid_options(content, **shared)
    if grid.status:
        return grid_status(grid)
    check_directory("--output_dir", grid.output_dir)
    runs = runs_of(grid)
    if grid.dry_run:
        return planned(runs, grid)
    note = "An ablation: the base, each switch alone, and all together."
    return _trained(runs, grid, content["variants"], grid_text(content, note))


def _content(options: AblateOptions) -> dict[str, Any]:
    """Return the options of the grid."""
    base = train_options(options)
    switches = switches_of(options.switches, [option.name for option in options_of(TrainOptions)])
    settings: dict[str, dict[str, str]] = {BASE: {}, **switches}
    if options.together and len(switches) > 1:
        settings[TOGETHER] = together(switches)
    variants = {name: changed(base, each, "--switches") for name, each in settings.items()}
    if TOGETHER in variants:
        try:
            check_together(variants[TOGETHER])
        except UsageError as error:
            raise UsageError(f"--switches, all together: {error}, or give --no_together") from None
    if same := [name for name, each in variants.items() if each == base and name != BASE]:
        raise UsageError(f"--switches {same[0]}: the base has these settings itself; take one of the two out")
    return grid_around(base, variants, options.output_dir)


def _trained(runs: list[GridRun], grid: GridOptions, names: list[str], file: str) -> int:
    say = terminal().print
    status = train_table(runs, grid, say, files={GRID_FILE: file})
    entries = {name: _entries(run, name) for name, run in zip(names, runs, strict=True)}
    if not entries[BASE]:
        say("the base has no finished seed, so there is nothing to compare with")
        return status
    table = markdown(effects(list(entries.values())))
    write_text(grid.output_dir / TABLE_FILE, table)
    say()
    say(table)
    return status


def _entries(run: GridRun, name: str) -> list[Entry]:
    """Return what was measured of a row, called by its name; nothing of a run without a finished seed."""
    if not any(record.status == "finished" for record in seed_records(run.directory).values()):
        return []
    return [
        replace(entry, model=name, detail="")
        for entry in entries_of_run(run.directory)
        if entry.protocol.selection == "checkpoint"
    ]
