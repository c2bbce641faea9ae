"""What was measured here -> entries of a leaderboard: run directories, and prediction files of any toolkit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from experiment.inputs.data import read_examples, scorer_of
from experiment.io.predictions import read_predictions, read_protocol, read_scores
from experiment.options.joint import sampling_words
from experiment.report.clusters import contexts_of
from experiment.report.entries import Entry, Protocol, Value
from experiment.report.failures import did_not_learn, failure_of
from experiment.report.recipes import hyperparameters_of, trained_otherwise
from experiment.report.statistics import Sample
from experiment.training.record import Record, run_records, runs_in, seed_directory
from preprocess.base.errors import DataError, UsageError
from preprocess.types import Example
from tasks.core.discovery import get_task, task_names
from tasks.core.task import Task

#: How far a mean over questions may lie from the score in the record, in percent: rounding.
_TOLERANCE = 1e-6
_HASH_DIGITS = 8


def value_of(numbers: Sequence[float], *, with_max: bool = True) -> Value:
    """Summarise one value per seed, in percent; three decimals, as the official scorers print."""
    if not numbers:
        return Value(None, None)
    best = max(numbers) if with_max else None
    texts = (f"{mean(numbers):.3f}", f"{best:.3f}" if best is not None else "")
    return Value(mean(numbers), best, stdev(numbers) if len(numbers) > 1 else None, None, texts)


def single_value(number: float) -> Value:
    """Return a value that is no mean."""
    return Value(None, number, None, None, ("", f"{number:.3f}"))


@dataclass(frozen=True)
class _Seed:
    """What a seed left of a split: its Record, scores per question (or None) and why it failed, if it did."""

    record: Record
    values: Mapping[str, float]
    per_example: Mapping[str, Mapping[str, float]] | None
    failure: str


def entries_of_run(run: Path, known: Mapping[str, str] | None = None) -> list[Entry]:
    """Read a run directory: for each split an entry per selection rule; and so for each of several tasks.

    Args:
        run: the directory.
        known: question id -> its article, of the data file, if it is there.

    Raises:
        UsageError: if it holds no Record, or a file in it can't be read.
    """
    records = run_records(run)
    if records[0].is_of_all:
        own = [entry for part in runs_in(run) for entry in entries_of_run(part, known)]
        return [*own, *(e for task in records[0].joint for e in _entries_of_all(run, records, task, own, known))]
    finished = [record for record in records if record.status == "finished"]
    splits = sorted({split for record in finished for split in record.scores})
    if not splits:
        return [_without_scores(run, records)]
    found = []
    for split in splits:
        seeds = [_read_seed(run, record, split) for record in finished if split in record.scores]
        found += list(_entries_of_split(run, split, seeds, len(records) - len(seeds), known))
    return found


def _entries_of_all(
    run: Path, records: Sequence[Record], task: str, own: Sequence[Entry], known: Mapping[str, str] | None
) -> Iterator[Entry]:
    """Yield a task's entries with the checkpoints that are best for all tasks of their run, beside its own best."""
    for entry in own:
        if entry.task != task or entry.protocol.selection != "checkpoint":
            continue
        seeds = []
        for record in records:
            prefix = f"{task}."
            of_all = record.scores.get(entry.split, {})
            values = {name.removeprefix(prefix): x for name, x in of_all.items() if name.startswith(prefix)}
            if record.status == "finished" and values:
                seeds.append(_read_answers(seed_directory(run, record.seed), f"{entry.split}_{task}", record, values))
        if seeds:
            names = list(entry.values)
            ids, samples, _ = _samples(names, [(seed.values, seed.per_example) for seed in seeds], known)
            numbers = {name: [seed.values[name] for seed in seeds if name in seed.values] for name in names}
            values_of_all = {n: value_of(x, with_max=entry.split != "test") for n, x in numbers.items()}
            protocol = replace(entry.protocol, selection="joint")
            yield replace(entry, values=values_of_all, samples=samples, ids=ids, protocol=protocol, notes=())


def _read_seed(run: Path, record: Record, split: str) -> _Seed:
    return _read_answers(seed_directory(run, record.seed), split, record, record.scores[split])


def _read_answers(directory: Path, suffix: str, record: Record, values: Mapping[str, float]) -> _Seed:
    scores, predictions = directory / f"scores_{suffix}.json", directory / f"predictions_{suffix}.json"
    per_example = read_scores(scores) if scores.is_file() else None
    answers = read_predictions(predictions, written_here=True) if predictions.is_file() else None
    return _Seed(record, values, per_example, did_not_learn(values, answers) or failure_of(record))


def _without_scores(run: Path, records: Sequence[Record]) -> Entry:
    record = records[0]
    values = dict.fromkeys(record.selection, Value(None, None))
    entry = _entry(run, record, "dev", values, protocol_of(record, "dev", 0))
    return replace(entry, n_unfinished=len(records))


def _entries_of_split(
    run: Path,
    split: str,
    seeds: Sequence[_Seed],
    n_unfinished: int,
    known: Mapping[str, str] | None,
) -> Iterator[Entry]:
    first = seeds[0].record
    names = list(dict.fromkeys(name for seed in seeds for name in seed.values))
    ids, samples, why_none = _samples(names, [(seed.values, seed.per_example) for seed in seeds], known)
    # The best of several test scores is a choice made on test; only the mean is not.
    values = {
        name: value_of([seed.values[name] for seed in seeds if name in seed.values], with_max=split != "test")
        for name in names
    }
    why_none = why_none or _without_interval(first.selection, samples)
    notes = (*_notes_on_seeds(first.selection, seeds), *([why_none] if why_none else []))
    entry = replace(
        _entry(run, first, split, values, protocol_of(first, split, len(seeds))),
        samples=samples,
        ids=ids,
        n_unfinished=n_unfinished,
        n_collapsed=sum(bool(seed.failure) for seed in seeds),
        notes=notes,
    )
    yield entry
    if split == "dev":
        yield replace(
            entry,
            values=_each_best(names, seeds),
            samples={},
            protocol=replace(entry.protocol, selection="each_best"),
        )
    else:
        best = max(range(len(seeds)), key=lambda i: _on_dev(seeds[i].record))
        yield replace(
            entry,
            values={name: single_value(seeds[best].values[name]) for name in names if name in seeds[best].values},
            samples={name: Sample(sample.values[:, [best]], sample.groups) for name, sample in samples.items()},
            protocol=replace(entry.protocol, selection="best_dev", order="single", n_runs="1"),
        )


def _on_dev(record: Record) -> float:
    dev = record.scores.get("dev", {})
    return sum(dev.get(name, 0.0) for name in record.selection)


def _each_best(names: Sequence[str], seeds: Sequence[_Seed]) -> dict[str, Value]:
    """Return the scores by the reference system's rule, which takes each metric where it was best."""
    best = {
        name: [
            max(evaluation["dev"][name] for evaluation in seed.record.evaluations if name in evaluation["dev"])
            for seed in seeds
            if any(name in evaluation["dev"] for evaluation in seed.record.evaluations)
        ]
        for name in names
    }
    return {name: value_of(numbers) for name, numbers in best.items()}


def _notes_on_seeds(names: Sequence[str], seeds: Sequence[_Seed]) -> Iterator[str]:
    failed = [seed for seed in seeds if seed.failure]
    if not failed:
        return
    said = ", ".join(f"seed {seed.record.seed}: {seed.failure}" for seed in failed)
    rest = [seed for seed in seeds if not seed.failure]
    without = ", ".join(
        f"{name} {mean(seed.values[name] for seed in rest):.3f}"
        for name in names
        if rest and all(name in seed.values for seed in rest)
    )
    yield f"did not learn, and is in the mean ({said})" + (f"; without: {without}" if without else "")


def _samples(
    names: Sequence[str],
    seeds: Sequence[tuple[Mapping[str, float], Mapping[str, Mapping[str, float]] | None]],
    known: Mapping[str, str] | None,
) -> tuple[tuple[str, ...], dict[str, Sample], str]:
    """Return the question ids, each metric's scores per question and seed in percent, and why there are none."""
    tables = [per_example for _, per_example in seeds if per_example]
    if len(tables) < len(seeds):
        return (), {}, "no interval: scores per question are missing"
    ids = tuple(tables[0])
    if any(tuple(table) != ids for table in tables):
        return (), {}, "no interval: the seeds have answered different questions"
    groups = contexts_of(ids, known)
    samples = {}
    for name in names:
        if all(name in scores for table in tables for scores in table.values()):
            numbers = np.array([[100 * table[id][name] for table in tables] for id in ids])
            stated = [values.get(name, np.nan) for values, _ in seeds]
            # Not every value is a mean over the questions: accuracies of some kinds of answers, rounded ones.
            if np.allclose(numbers.mean(axis=0), stated, rtol=0, atol=_TOLERANCE):
                samples[name] = Sample(numbers, groups)
    return ids, samples, ""


def _without_interval(names: Sequence[str], samples: Mapping[str, Sample]) -> str:
    missing = [name for name in names if name not in samples]
    return f"no interval of {', '.join(missing)}, which is not a mean over the questions" if missing else ""


def _entry(run: Path, record: Record, split: str, values: Mapping[str, Value], protocol: Protocol) -> Entry:
    return Entry(
        task=record.task,
        split=split,
        model=record.shown_model,
        known_as=record.model.rsplit("/", 1)[-1],
        kind="run",
        protocol=protocol,
        values=values,
        detail=str(run),
        shown=tuple(record.selection),
        published_file=_published_file(record, split),
        hyperparameters=hyperparameters_of(record),
        trained_otherwise=trained_otherwise(record),
    )


def _published_file(record: Record, split: str) -> str:
    if record.task not in task_names() or record.limit_of(split):
        return ""
    return get_task(record.task).split_of(record.hashes.get(f"{split}_file", ""))


def protocol_of(record: Record, split: str, n_seeds: int) -> Protocol:
    """Return what the scores of a run's selected checkpoints must share with those that they stand with."""
    config, limit = record.config, record.limit_of(split)
    return Protocol(
        scorer=f"{record.task}, version {record.task_version}",
        data=record.hashes.get(f"{split}_file", "")[:_HASH_DIGITS],
        selection="checkpoint",
        order="mean(max)" if split == "dev" else "mean_only",
        n_runs=str(n_seeds),
        max_seq_length=str(config.get("max_seq_length") or ""),
        max_answer_length=str(record.decode.get("max_answer_length") or config.get("max_answer_length") or ""),
        other="; ".join(filter(None, (f"first {limit} questions" if limit else "", _together(record)))),
    )


def _together(record: Record) -> str:
    """Say which tasks were learned together, and how often each had its turn; "" of one alone."""
    if not record.joint:
        return ""
    return f"trained jointly on {', '.join(record.joint)} ({sampling_words(record.config)})"


@dataclass(frozen=True)
class Gold:
    """A data file with answers, read once.

    Args:
        task: whose metric scores it.
        score: predictions -> score.
        articles: question id -> its article or case; "" for none.
        sha256: of the file.
        examples: its questions.
    """

    task: Task
    score: Callable[[Mapping[str, Any]], Any]
    articles: dict[str, str]
    sha256: str
    examples: Sequence[Example] = ()


def read_gold(task: Task, path: Path) -> Gold:
    """Read a data file and prepare its task's metric.

    Raises:
        DataError: if it can't be scored against.
    """
    examples, report = read_examples(task, path)
    articles = {example.id: example.group or example.id for example in examples}
    return Gold(task, scorer_of(task, examples, report), articles, report.sha256, examples)


def named_files(predictions: Sequence[str]) -> dict[str, list[Path]]:
    """Understand `name=FILE`; files of one name are its seeds.

    Raises:
        UsageError: for what is not of that form.
    """
    files: defaultdict[str, list[Path]] = defaultdict(list)
    for text in predictions:
        name, equals, path = text.partition("=")
        if not (name.strip() and equals and path):
            raise UsageError(f"--predictions {text!r}: name=FILE was expected")
        file = Path(path).expanduser()
        if file in files[name.strip()]:
            raise UsageError(f"--predictions {text!r}: stands there twice; give each seed its own file")
        files[name.strip()].append(file)
    return dict(files)


def entries_of_predictions(gold: Gold, files: Mapping[str, Sequence[Path]]) -> list[Entry]:
    """Score prediction files of any toolkit by the task's official metric.

    Raises:
        DataError: if a file can't be used, or answers none of the questions.
    """
    return [_entry_of_files(gold, name, paths) for name, paths in files.items()]


def _how_come_by(predictions: Path) -> str:
    return str(read_protocol(predictions).get("protocol", ""))


def _entry_of_files(gold: Gold, name: str, paths: Sequence[Path]) -> Entry:
    scores, notes, n_collapsed = [], [], 0
    for path in paths:
        answers = read_predictions(path, gold.task, gold.examples)
        if not answers.keys() & gold.articles.keys():
            raise DataError(f"{path}: none of its {len(answers)} ids is in the data file; give its answers")
        score = gold.score(answers)
        scores.append(score)
        if score.n_missing:
            notes.append(f"{path.name}: {score.n_missing} of {score.n} questions have no prediction: wrong")
        failure = did_not_learn(score.values, answers)
        if failure:
            n_collapsed += 1
            notes.append(f"{path.name}: did not learn, and is in the mean ({failure})")
    names = list(scores[0].values)
    ids, samples, why_none = _samples(names, [(score.values, score.per_example) for score in scores], gold.articles)
    why_none = why_none or _without_interval(gold.task.selection, samples)
    split = gold.task.split_of(gold.sha256)
    return Entry(
        task=gold.task.name,
        split=split or "given",
        model=name,
        known_as=name,
        kind="predictions",
        protocol=Protocol(
            scorer=f"{gold.task.name}, version {gold.task.version}",
            data=gold.sha256[:_HASH_DIGITS],
            selection="given",
            order="mean_only" if split == "test" else "mean(max)",
            n_runs=str(len(paths)),
            other="; ".join(dict.fromkeys(said for path in paths if (said := _how_come_by(path)))),
        ),
        values={
            n: value_of([score.values[n] for score in scores if n in score.values], with_max=split != "test")
            for n in names
        },
        samples=samples,
        ids=ids,
        n_collapsed=n_collapsed,
        notes=(*notes, *([why_none] if why_none else [])),
        shown=gold.task.selection,
        published_file=split,
    )
