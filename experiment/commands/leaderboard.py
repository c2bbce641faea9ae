"""The table of finished runs."""

from __future__ import annotations

from experiment.io.outputs import check_file
from experiment.options.flags import LeaderboardOptions
from experiment.report.table import leaderboard as leaderboard_of
from preprocess.base.errors import UsageError
from preprocess.base.files import write_text


def leaderboard(options: LeaderboardOptions) -> None:
    """Print the leaderboard of run directories, and write it where asked.

    Raises:
        UsageError: if there is none to read, or the file can't be written.
    """
    if not options.runs:
        raise UsageError("leaderboard needs run directories")
    check_file("--output", options.output)
    table = leaderboard_of(options.runs)
    print(table, end="")
    if options.output is not None:
        write_text(options.output, table)
