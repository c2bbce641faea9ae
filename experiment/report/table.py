"""Records -> leaderboard rows -> a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

from experiment.io.tables import markdown as markdown_table
from experiment.training.record import Record, run_records, runs_in

#: Metrics with names up to this long are abbreviations, and stand in capitals at the head of a column.
_ABBREVIATION = 3


@dataclass(frozen=True)
class LeaderboardRow:
    """One run: a model on a task's split, over its seeds.

    Args:
        task: name of the task.
        split: "dev" or "test".
        model: name of the model, the framework if it is not PyTorch, and the tasks that it has learned beside this.
        n_seeds: seeds with a score.
        n_unfinished: seeds without one (failed, interrupted, running).
        values: metric that selects the checkpoint -> one value per seed, in percent; the columns of the table.
        weights: hash of what the model started from, which tells it from others of its name.
        given: the model as it was typed.
        run: the run directory; "" for Records that lie nowhere.
    """

    task: str
    split: str
    model: str
    n_seeds: int
    n_unfinished: int
    values: dict[str, tuple[float, ...]]
    weights: str = ""
    given: str = ""
    run: str = ""


def rows_of(records: Sequence[Record], run: str = "") -> list[LeaderboardRow]:
    """Summarise the Records of one run: a row per split that has a score, or one empty row if none has."""
    finished = [record for record in records if record.status == "finished"]
    first = records[0]
    empty = LeaderboardRow(
        task=first.task,
        split="dev",
        model=first.shown_model,
        n_seeds=0,
        n_unfinished=len(records),
        values=dict.fromkeys(first.selection, ()),
        weights=first.hashes.get("checkpoint") or first.hashes.get("architecture", ""),
        given=str(first.config.get("model_name_or_path") or first.config.get("config_name") or ""),
        run=run,
    )
    rows = []
    scored = (record.scores.items() for record in finished)
    # Of several tasks with test files for some there is no mean on test.
    for split in sorted({split for of_seed in scored for split, s in of_seed if {*first.selection} & s.keys()}):
        scores = [record.scores[split] for record in finished if split in record.scores]
        values = {metric: tuple(s[metric] for s in scores if metric in s) for metric in first.selection}
        n_unfinished = len(records) - len(scores)
        rows.append(replace(empty, split=split, n_seeds=len(scores), n_unfinished=n_unfinished, values=values))
    return rows or [empty]


def mean_max(values: Sequence[float]) -> str:
    """Format as `mean(max)` with three decimals, as the literature does; "-" for no values."""
    return f"{mean(values):.3f}({max(values):.3f})" if values else "-"


def standard_deviation(values: Sequence[float]) -> str:
    """Format the sample standard deviation; "-" for fewer than two values."""
    return f"{stdev(values):.3f}" if len(values) > 1 else "-"


def markdown(rows: Sequence[LeaderboardRow]) -> str:
    """Format rows as Markdown, a table for all tasks with the same metrics.

    In a table the rows of a task's split stand together, the largest sum of means first. Rows that would bear the
    same name get what tells them apart.
    """
    ordered = sorted(_told_apart(rows), key=_order)
    # Tables come in the order of their first rows.
    metrics = list(dict.fromkeys(tuple(row.values) for row in ordered))
    return "\n".join(_table(names, [row for row in ordered if tuple(row.values) == names]) for names in metrics)


def _table(metrics: Sequence[str], rows: Sequence[LeaderboardRow]) -> str:
    columns = [title for name in metrics for title in (f"{_title(name)}:mean(max)", "sd")]
    body = []
    for row in rows:
        numbers = [text(row.values[name]) for name in metrics for text in (mean_max, standard_deviation)]
        seeds = f"{row.n_seeds}" + (f" ({row.n_unfinished} unfinished)" if row.n_unfinished else "")
        body.append([row.task, row.split, row.model, *numbers, seeds])
    return markdown_table(["task", "split", "model", *columns, "seeds"], body)


def _title(metric: str) -> str:
    return metric.upper() if len(metric) <= _ABBREVIATION else metric


def _order(row: LeaderboardRow) -> tuple[str, str, float]:
    return row.task, row.split, -sum(mean(values) for values in row.values.values() if values)


def _told_apart(rows: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    """Add to equal names what differs: of different models how they were typed, else the run directory."""
    by_model: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        by_model[row.model].add((row.weights, row.given))
    # One way to type it for weights that differ says nothing: a file was replaced.
    ambiguous = {
        model
        for model, sources in by_model.items()
        if len({weights for weights, _ in sources}) > 1 < len({given for _, given in sources})
    }
    rows = [_with_detail(row, row.given) if row.model in ambiguous else row for row in rows]
    n_equal = Counter((row.task, row.split, row.model) for row in rows)
    return [_with_detail(row, row.run) if n_equal[row.task, row.split, row.model] > 1 else row for row in rows]


def _with_detail(row: LeaderboardRow, detail: str) -> LeaderboardRow:
    return replace(row, model=f"{row.model} ({detail})") if detail else row


def leaderboard(runs: Sequence[Path]) -> str:
    """Read run directories and return their leaderboard as Markdown; a run of several tasks has a row for each.

    Raises:
        UsageError: if one of them holds no Record.
    """
    each = [part for run in runs for part in dict.fromkeys((*runs_in(run), run))]
    return markdown([row for run in each for row in rows_of(run_records(run), str(run))])
