"""One HTML page about runs and prediction files, which opens from disk."""

from __future__ import annotations

from experiment.io.outputs import check_directory
from experiment.io.streams import say
from experiment.options.flags import ReportOptions
from experiment.report.measured import Gold, named_files, read_gold
from experiment.report.page.build import Sources, build
from experiment.report.page.render import html
from experiment.training.finished import each_run
from experiment.training.record import runs_in
from preprocess.base.errors import UsageError
from preprocess.base.files import write_text
from tasks.core.discovery import get_task

FILE_NAME = "index.html"


def report(options: ReportOptions) -> None:
    """Write the page, and say where.

    Raises:
        UsageError: if there is nothing to read, or the page can't be written.
        DataError: if a data or prediction file can't be used.
    """
    if not (options.runs or options.predictions):
        raise UsageError("report: give RUNS or --predictions")
    check_directory("--output", options.output, (FILE_NAME,))
    for path in options.data_file:
        if not path.is_file():
            raise UsageError(f"--data_file {path}: no such file; check the path")
    sources = Sources(
        runs=tuple(dict.fromkeys(part for run in each_run(options.runs) for part in runs_in(run))),
        gold=_gold(options),
        predictions=named_files(options.predictions),
        data_files=options.data_file,
        n_best=options.n_best,
        title=options.title,
    )
    page = build(sources)
    for note in page.notes:
        say(f"warning: {note}")
    write_text(options.output / FILE_NAME, html(page))
    print(f"{options.output / FILE_NAME}: open it in a browser")


def _gold(options: ReportOptions) -> Gold | None:
    if not options.predictions:
        if options.task is not None:
            raise UsageError("--task says whose metric scores --predictions; give these, too, or leave it out")
        return None
    if options.task is None or len(options.data_file) != 1:
        raise UsageError("--predictions needs --task and one --data_file, whose answers they are scored against")
    return read_gold(get_task(options.task), options.data_file[0])
