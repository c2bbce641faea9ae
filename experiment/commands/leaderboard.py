"""The table of finished runs, of prediction files and of what was published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from experiment.io.outputs import check_file
from experiment.io.streams import say
from experiment.options.flags import LeaderboardOptions
from experiment.report.board import PARTS, Layout, Table, tables
from experiment.report.entries import Entry
from experiment.report.measured import Gold, entries_of_predictions, entries_of_run, named_files, read_gold
from experiment.report.published import HUMAN, entries_of, published
from experiment.report.remarks import remarks
from experiment.report.render.data import as_csv, as_json
from experiment.report.render.latex import latex
from experiment.report.render.markdown import markdown
from experiment.report.render.terminal import terminal
from experiment.report.table import leaderboard as leaderboard_of
from experiment.training.finished import each_run
from preprocess.base.errors import UsageError
from preprocess.base.files import write_text
from preprocess.base.names import did_you_mean
from tasks.core.discovery import get_task

_FORMS: dict[str, Callable[[Sequence[Table]], str]] = {
    "markdown": markdown,
    "latex": latex,
    "csv": as_csv,
    "json": as_json,
    "terminal": terminal,
}
_ORDERS = ("score", "model", "given")


def leaderboard(options: LeaderboardOptions) -> None:
    """Print the leaderboard of run directories, prediction files and published scores, and write it where asked.

    Raises:
        UsageError: if there is nothing to read, or the file can't be written.
        DataError: if a data or prediction file can't be used.
    """
    if not (options.runs or options.predictions or options.published):
        raise UsageError("leaderboard: give RUNS, --predictions or --published")
    check_file("--output", options.output)
    options = replace(options, runs=each_run(options.runs))
    if replace(options, output=None) == LeaderboardOptions(runs=options.runs):
        table = leaderboard_of(options.runs)
        # On standard error: the plain table has no room for it.
        for line in remarks(options.runs):
            say(line)
    else:
        table = _FORMS[options.format or "markdown"](_tables(options))
    print(table, end="")
    if options.output is not None:
        write_text(options.output, table)


def _tables(options: LeaderboardOptions) -> list[Table]:
    gold = _gold(options)
    entries = [
        entry for run in options.runs for entry in entries_of_run(run, gold.articles if gold is not None else None)
    ]
    if gold is not None and options.predictions:
        entries += _beside(entries_of_predictions(gold, named_files(options.predictions)), entries)
    if options.published is not None:
        entries += _published(options.published, entries)
    return tables(entries, _layout(options, entries))


def _gold(options: LeaderboardOptions) -> Gold | None:
    if options.data_file is None or options.task is None:
        if options.predictions:
            raise UsageError("--predictions needs --task and --data_file, whose answers they are scored against")
        if options.data_file is not None:
            raise UsageError("--data_file needs --task, which says how it is read")
        if options.task is not None:
            raise UsageError("--task says how --data_file is read; give that, too, or leave both out")
        return None
    return read_gold(get_task(options.task), options.data_file)


def _beside(predictions: Sequence[Entry], runs: Sequence[Entry]) -> list[Entry]:
    """Put predictions into the table of the runs that were scored on the same file."""
    split = {(run.task, run.protocol.data): run.split for run in runs}
    return [replace(entry, split=split.get((entry.task, entry.protocol.data), entry.split)) for entry in predictions]


def _published(names: str, measured: Sequence[Entry]) -> list[Entry]:
    """Return published entries of the tasks and splits that were measured here, or all of them if nothing was."""
    asked = [name.strip() for name in names.split(",") if name.strip()]
    if not asked:
        raise UsageError("--published: names of collections were expected, found nothing")
    found = entries_of(published(asked))
    here = {(entry.task, entry.split) for entry in measured}
    if here:
        tasks = {task for task, _ in here}
        found = [e for e in found if (e.task, e.split) in here or (e.task in tasks and e.split == "unstated")]
    if HUMAN not in asked:
        there = here or {(entry.task, entry.split) for entry in found}
        tasks = {task for task, _ in there}
        people = entries_of(published([HUMAN]))
        found += [e for e in people if (e.task, e.split) in there or (e.task in tasks and e.split == "unstated")]
    return found


def _layout(options: LeaderboardOptions, entries: Sequence[Entry]) -> Layout:
    known = sorted({metric for entry in entries for metric in entry.values})
    for flag, names in (("--metrics", options.metrics), ("--sort", (options.sort or "score",))):
        for name in names:
            if name not in known and (flag == "--metrics" or name not in _ORDERS):
                allowed = [*known, *(_ORDERS if flag == "--sort" else ())]
                raise UsageError(
                    f"{flag} {name!r}: one of {', '.join(allowed)} was expected{did_you_mean(name, allowed)}"
                )
    if options.format in ("csv", "json"):
        given = {"--columns": options.columns, "--style": options.style, "--sort": options.sort}
        for flag in (flag for flag, value in given.items() if value):
            raise UsageError(f"{flag} is about tables to read; leave it out with --format {options.format}")
    style = options.style or "columns"
    return Layout(
        style=style,
        parts=options.columns or PARTS[style],
        metrics=options.metrics,
        sort=options.sort or "score",
        selections=options.selection,
    )
