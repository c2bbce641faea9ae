"""Runs and prediction files -> the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from experiment.report.board import Layout, Table, tables
from experiment.report.entries import Entry
from experiment.report.measured import Gold, entries_of_predictions, entries_of_run
from experiment.report.page.answers import Questions, labels, question_sets
from experiment.report.page.browser import browser_data
from experiment.report.page.curves import distributions, learning_curves
from experiment.report.page.render import Origin, Page, Spread, Training
from experiment.report.page.views import View
from experiment.report.provenance import command_of, facts_of
from experiment.training.record import Record, run_records

_PARTS = Layout(parts=("score", "sd", "interval", "seeds"))


@dataclass(frozen=True)
class Sources:
    """What the page is made of.

    Args:
        runs: run directories.
        gold: what prediction files are scored against; None for none.
        predictions: name -> files, one a seed.
        data_files: where questions are looked for first.
        n_best: candidates that the error browser shows of each list.
        title: of the page.
    """

    runs: Sequence[Path]
    gold: Gold | None
    predictions: Mapping[str, Sequence[Path]]
    data_files: Sequence[Path]
    n_best: int
    title: str


def build(sources: Sources) -> Page:
    """Read everything and compute what the page shows.

    Raises:
        UsageError, DataError: if a file of a run, or a prediction file, can't be read.
    """
    names = labels(sources.runs)
    records = {run: run_records(run) for run in sources.runs}
    styles = {name: i for i, name in enumerate(dict.fromkeys([*names.values(), *sources.predictions]))}
    articles = sources.gold.articles if sources.gold is not None else None
    entries = [(names[run], entry) for run in sources.runs for entry in entries_of_run(run, articles)]
    if sources.gold is not None and sources.predictions:
        split = {(entry.task, entry.protocol.data): entry.split for _, entry in entries}
        given = entries_of_predictions(sources.gold, sources.predictions)
        entries += [(e.model, replace(e, split=split.get((e.task, e.protocol.data), e.split))) for e in given]
    boards = tables([entry for _, entry in entries], _PARTS)
    questions = Questions(sources.data_files)
    sets = question_sets(names, questions, sources.gold, sources.predictions)
    views = [View(found, styles) for found in sets]
    return Page(
        title=sources.title,
        tables=boards,
        trainings=_trainings(records, names, styles),
        spreads=[_spread(board, names, records, styles) for board in boards],
        views=views,
        origins=[_origin(run, names[run], records[run]) for run in sources.runs],
        data=browser_data(views, sources.n_best),
        notes=list(dict.fromkeys(questions.notes)),
        version=metadata.version("chinese-mrc"),
    )


def _trainings(
    records: Mapping[Path, Sequence[Record]], names: Mapping[Path, str], styles: Mapping[str, int]
) -> list[Training]:
    by_task: dict[str, dict[str, Sequence[Record]]] = {}
    for run, seeds in records.items():
        by_task.setdefault(seeds[0].task, {})[names[run]] = seeds
    found = [Training(task, learning_curves(models, styles)) for task, models in by_task.items()]
    return [training for training in found if training.charts]


def _spread(
    board: Table,
    names: Mapping[Path, str],
    records: Mapping[Path, Sequence[Record]],
    styles: Mapping[str, int],
) -> Spread:
    """Return the seeds of a table's models; those of prediction files have their scores from their entries."""
    shown: list[tuple[str, Entry]] = []
    seeds: dict[tuple[str, str], list[tuple[str, Mapping[str, float]]]] = {}
    directories = {str(run): run for run in records}
    for entry in board.entries:
        if entry.protocol.selection not in ("checkpoint", "given"):
            continue
        run = directories.get(entry.detail)
        name = names[run] if run is not None else entry.model
        shown.append((name, entry))
        if run is not None:
            scored = [record for record in records[run] if entry.split in record.scores]
            seeds[name, entry.split] = [(f"seed {record.seed}", record.scores[entry.split]) for record in scored]
        else:
            columns = {metric: sample.values.mean(axis=0) for metric, sample in entry.samples.items()}
            n_files = int(entry.protocol.n_runs)
            seeds[name, entry.split] = [
                (f"file {i + 1}", {metric: float(means[i]) for metric, means in columns.items()})
                for i in range(n_files)
            ]
    return Spread(f"{board.task}, {board.split}", distributions(shown, seeds, styles))


def _origin(run: Path, name: str, records: Sequence[Record]) -> Origin:
    # Options of one seed are those of all; each Record names the seeds of the command that trained it.
    every = list(dict.fromkeys(seed for record in records for seed in record.config.get("seeds", [record.seed])))
    config = {**records[0].config, "seeds": every}
    return Origin(name, str(run), command_of(config), facts_of(records))
