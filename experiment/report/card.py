"""A run -> its card for the hub: README.md with the metrics in its head, and the hub's own file of results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml

from experiment.report.board import Layout, interval_text, tables
from experiment.report.entries import Entry
from experiment.report.measured import entries_of_run
from experiment.report.page.curves import title_of
from experiment.report.provenance import command_of, facts_of
from experiment.report.render.markdown import escaped, markdown
from experiment.training.record import Record, run_records, runs_in
from preprocess.base.errors import UsageError
from pretrained_configs import catalog
from tasks.core.discovery import get_task
from tasks.core.task import Task

README = "README.md"
#: Our name of a metric -> the hub's.
_HUB_METRICS = {"em": "exact_match", "f1": "f1"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Card:
    """What stands on the hub.

    Args:
        files: path in the repository -> text.
        record: of the seed whose checkpoint it describes.
        notes: what a user should know of it.
    """

    files: dict[str, str]
    record: Record
    notes: list[str]


def make_card(run: Path, seed: int | None = None, dataset_id: str | None = None) -> Card:
    """Describe the checkpoint of one seed, and the run that it is of.

    Args:
        run: the directory.
        seed: of the checkpoint; the best on dev if None.
        dataset_id: of the data on the hub; if None, that which the task names, if the file is the published one.

    Raises:
        UsageError: if no such seed is finished.
        DataError: if the run's task is not there any more.
    """
    records = run_records(run)
    if records[0].is_of_all:
        parts = ", ".join(str(part) for part in runs_in(run))
        raise UsageError(f"{run}: a run of several tasks, each of which has a card of its own; give one of {parts}")
    record = _chosen(run, records, seed)
    task = get_task(record.task)
    entries = [entry for entry in entries_of_run(run) if entry.protocol.selection == "checkpoint"]
    boards = tables(entries, Layout(parts=("score", "sd", "interval", "seeds")))
    measured = [entry for board in boards for entry in board.entries if entry.split in record.scores]
    dataset = {split: dataset_id or _published(task, record, split) for split in record.scores}
    data = ModelCardData(
        language=task.language,
        library_name="chinese-mrc",
        pipeline_tag=task.pipeline,
        tags=[task.pipeline, task.name],
        base_model=_base_model(record),
        datasets=sorted({name for name in dataset.values() if name}) or None,
        model_name=f"{record.model}-{task.name}",
        eval_results=[result for entry in measured for result in _results(task, record, entry, dataset[entry.split])],
    )
    text = f"---\n{data.to_yaml()}\n---\n\n{_body(run, task, record, records, measured, markdown(boards))}"
    files = {README: str(ModelCard(text))}
    notes = []
    for split, name in dataset.items():
        entries_here = [entry for entry in measured if entry.split == split]
        if name:
            results = [result for entry in entries_here for result in _entries(record, entry, name)]
            files[f".eval_results/{task.name}_{split}.yaml"] = yaml.safe_dump(
                eval_result_entries_to_yaml(results), sort_keys=False, allow_unicode=True
            )
        else:
            notes.append(f"no .eval_results of {split}: the data is not known on the hub; --dataset_id names it")
    return Card(files, record, notes)


def _chosen(run: Path, records: Sequence[Record], seed: int | None) -> Record:
    finished = [record for record in records if record.status == "finished" and record.scores]
    if seed is not None:
        finished = [record for record in finished if record.seed == seed]
    if not finished:
        which = "no seed" if seed is None else f"seed {seed} is not there, or not"
        raise UsageError(f"{run}: {which} finished with a score; a card needs one")
    return max(finished, key=lambda r: sum(r.scores.get("dev", {}).get(name, 0.0) for name in r.selection))


def _published(task: Task, record: Record, split: str) -> str:
    """Return the data set on the hub, if what was scored is its published file: its name alone says little."""
    whole = record.limit_of(split) is None
    return task.hub_dataset if whole and task.split_of(record.hashes.get(f"{split}_file", "")) else ""


def _base_model(record: Record) -> str | None:
    published = catalog.find(record.model)
    if published is not None:
        return published.hub_id or None
    given = str(record.config.get("model_name_or_path") or "")
    return given if _HUB_ID.fullmatch(given) and not Path(given).exists() else None


def _results(task: Task, record: Record, entry: Entry, dataset: str) -> list[EvalResult]:
    """Return the checkpoint's own scores, and where there are several seeds, their means."""
    results = []
    for metric in entry.shown:
        value = record.scores[entry.split].get(metric)
        if value is None:
            continue
        numbers = [(title_of(metric), value)]
        mean, interval = entry.values[metric].mean, entry.values[metric].interval
        if entry.protocol.n_runs != "1" and mean is not None:
            said = f", 95 % {interval_text(interval)}" if interval is not None else ""
            numbers.append((f"{title_of(metric)}, mean of {entry.protocol.n_runs} seeds{said}", mean))
        results += [
            EvalResult(
                task_type=task.pipeline,
                dataset_type=dataset or task.name,
                dataset_name=task.title,
                dataset_split=entry.split,
                dataset_args={"sha256": record.hashes.get(f"{entry.split}_file", "")},
                metric_type=_HUB_METRICS.get(metric, metric),
                metric_name=name,
                metric_value=round(number, 3),
            )
            for name, number in numbers
        ]
    return results


def _entries(record: Record, entry: Entry, dataset: str) -> list[EvalResultEntry]:
    entries = []
    for metric in entry.shown:
        if (value := record.scores[entry.split].get(metric)) is not None:
            notes = f"{entry.split}, seed {record.seed}; {entry.protocol.words()}"
            mean = entry.values[metric]
            if entry.protocol.n_runs != "1" and mean.mean is not None:
                notes += f"; mean over seeds {mean.mean:.3f}, 95 % {interval_text(mean.interval)}"
            entries.append(EvalResultEntry(dataset, _HUB_METRICS.get(metric, metric), round(value, 3), notes=notes))
    return entries


def _place(record: Record, best: Record, n: int) -> str:
    """Say how a checkpoint stands among those of the seeds of its run."""
    if n == 1:
        return ""
    if record.seed == best.seed:
        return f"; the best on dev of {n} seeds of one run"
    return f"; one of {n} seeds of one run, of which seed {best.seed} is the best on dev"


def _body(
    run: Path, task: Task, record: Record, records: Sequence[Record], measured: Sequence[Entry], board: str
) -> str:
    own = [
        f"| {escaped(entry.split)} | {escaped(title_of(metric))} | {record.scores[entry.split][metric]:.3f} |"
        for entry in measured
        for metric in entry.shown
        if metric in record.scores[entry.split]
    ]
    n_finished = sum(each.status == "finished" for each in records)
    place = _place(record, _chosen(run, records, None), n_finished)
    others = [escaped(get_task(name).title) for name in record.joint if name != task.name]
    beside = f" together with {', '.join(others)}" if others else ""
    lines = [
        f"# {escaped(record.model)}, fine-tuned on {escaped(task.title)}{beside}",
        "",
        f"The checkpoint of seed {record.seed}, step {record.step} of {record.n_steps}{place}. "
        "Its step was chosen on dev: a score on dev is a little too good, one on test is not.",
        "",
        "| split | metric | in % |",
        "|---|---|---|",
        *own,
        "",
        "## The run",
        "",
        "What one more training would reach, on average, with a 95 % interval over questions and seeds:",
        "",
        board,
        "## Made by",
        "",
        _fenced(_command(record, records)),
        "",
        *(f"* {escaped(name)}: {escaped(text)}" for name, text in facts_of(records)),
        "",
        "## To answer",
        "",
        _fenced(f"chinese-mrc predict --task {task.name} --model_name_or_path DIRECTORY {_texts(task)}"),
        "",
    ]
    return "\n".join(lines)


def _texts(task: Task) -> str:
    """Return the options that a text, or a file of them, is given by."""
    typed = [f"--{name} …" for name in task.inputs]
    return " ".join(typed) if set(task.inputs) <= {"question", "context"} else "--test_file … --output_dir …"


def _command(record: Record, records: Sequence[Record]) -> str:
    every = list(dict.fromkeys(seed for r in records for seed in r.config.get("seeds", [r.seed])))
    return command_of({**record.config, "seeds": every})


def _fenced(text: str) -> str:
    """Return a block of code that no run of backticks in the text ends."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 0)
    return f"{fence}console\n{' '.join(text.splitlines())}\n{fence}"
