"""Records -> leaderboard rows -> a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from experiment.options.flags import LeaderboardOptions
from experiment.training.record import Record, run_records
from preprocess.base.errors import UsageError
from preprocess.base.files import write_text


@dataclass(frozen=True)
class Row:
    """One run: a model on a task's split, over its seeds.

    Args:
        task: name of the task.
        split: "dev" or "test".
        model: name of the model, and of the framework if it is not PyTorch.
        n_seeds: seeds with a score.
        n_unfinished: seeds without one (failed, interrupted, running).
        values: metric -> one value per seed, in percent.
    """

    task: str
    split: str
    model: str
    n_seeds: int
    n_unfinished: int
    values: dict[str, tuple[float, ...]]


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Summarise the Records of one run: a row per split that has a score, or one empty row if none has."""
    finished = [record for record in records if record.status == "finished"]
    first = records[0]
    framework = first.config.get("framework", "pytorch")
    model = first.model if framework == "pytorch" else f"{first.model}, {framework}"
    rows = []
    for split in sorted({split for record in finished for split in record.scores}):
        scores = [record.scores[split] for record in finished if split in record.scores]
        values = {metric: tuple(s[metric] for s in scores) for metric in scores[0]}
        rows.append(Row(first.task, split, model, len(scores), len(records) - len(scores), values))
    return rows or [Row(first.task, "dev", model, 0, len(records), {})]


def mean_max(values: Sequence[float]) -> str:
    """Format as `mean(max)` with three decimals, as the literature does; "-" for no values."""
    return f"{mean(values):.3f}({max(values):.3f})" if values else "-"


def standard_deviation(values: Sequence[float]) -> str:
    """Format the sample standard deviation; "-" for fewer than two values."""
    return f"{stdev(values):.3f}" if len(values) > 1 else "-"


def markdown(rows: Sequence[Row]) -> str:
    """Format rows as a Markdown table, the best mean F1 + EM of each task and split first."""
    lines = [
        "| task | split | model | F1:mean(max) | sd | EM:mean(max) | sd | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=_order):
        f1, em = row.values.get("f1", ()), row.values.get("em", ())
        seeds = f"{row.n_seeds}" + (f" ({row.n_unfinished} unfinished)" if row.n_unfinished else "")
        cells = [row.task, row.split, row.model, mean_max(f1), standard_deviation(f1), mean_max(em)]
        lines.append("| " + " | ".join([*cells, standard_deviation(em), seeds]) + " |")
    return "\n".join(lines) + "\n"


def _order(row: Row) -> tuple[str, str, float]:
    total = mean(row.values["f1"]) + mean(row.values["em"]) if row.values else 0.0
    return row.task, row.split, -total


def print_leaderboard(options: LeaderboardOptions) -> None:
    """Print the leaderboard of run directories, and write it where asked."""
    if not options.runs:
        raise UsageError("leaderboard needs run directories")
    table = leaderboard(options.runs)
    print(table, end="")
    if options.output is not None:
        write_text(options.output, table)


def leaderboard(runs: Sequence[Path]) -> str:
    """Read run directories and return their leaderboard as Markdown.

    Raises:
        UsageError: if one of them holds no Record.
    """
    return markdown([row for run in runs for row in rows_of(run_records(run))])
