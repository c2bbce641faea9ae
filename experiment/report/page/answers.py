"""Whose answers the report looks at: seeds of runs, and prediction files, with the questions they answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiment.inputs.data import read_examples
from experiment.io.predictions import read_nbest, read_predictions, read_scores
from experiment.options.data import Files
from experiment.report.measured import Gold
from experiment.training.record import Record, run_records, seed_directory
from preprocess.base.errors import DataError, UsageError
from preprocess.base.hashing import hash_of_files, sha256
from preprocess.types import Example
from tasks.core.discovery import get_task
from tasks.core.task import Task
from tasks.problems.kinds import kinds_of

_REMEDY = "score the seed again"


@dataclass(frozen=True)
class System:
    """One model's seed: its answers to the questions of a file.

    Args:
        model: what it is called.
        seed: its number, or that of the file.
        answers: question id -> text.
        scores: question id -> metric -> 0-1.
        nbest: question id -> candidates, best first; empty where there is no such file.
        threshold: above which null score minus span score the null answer is given; None where there is none.
    """

    model: str
    seed: int
    answers: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]]
    nbest: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    threshold: float | None = None


@dataclass(frozen=True)
class QuestionSet:
    """The questions of a file, and who has answered them.

    Args:
        task: whose file it is.
        split: "dev", "test", or "given".
        examples: the questions.
        systems: in the order of the runs and seeds.
        metrics: that the task's checkpoints are selected by.
    """

    task: Task
    split: str
    examples: Sequence[Example]
    systems: Sequence[System]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those by which the task selects that every system has for every question it answers."""
        tables = [scores for system in self.systems for scores in system.scores.values()]
        return tuple(name for name in self.task.selection if all(name in scores for scores in tables))

    @property
    def kinds(self) -> dict[str, str]:
        """Text -> kind of the answers that are no spans; none of a task all of whose answers are spans."""
        return kinds_of(self.task.problem)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, where the answers are such; none of other tasks."""
        gold = [answer for example in self.examples for answer in example.answers[:1]]
        if len(gold) < len(self.examples) or any(answer.kind != "class" for answer in gold):
            return ()
        names = {answer.text for answer in gold}
        named = any(text in names for system in self.systems for text in system.answers.values())
        return tuple(sorted(names)) if named else ()


def label_of(run: Path, record: Record, ambiguous: bool) -> str:
    """Return what a run is called; one whose name another one has, too, by its directory as well."""
    return f"{record.shown_model} ({run})" if ambiguous else record.shown_model


def labels(runs: Sequence[Path]) -> dict[Path, str]:
    """Return what each run is called: no two of one task alike."""
    records = {run: run_records(run)[0] for run in runs}
    plain = {run: (record.task, label_of(run, record, False)) for run, record in records.items()}
    n_equal = {name: list(plain.values()).count(name) for name in plain.values()}
    return {run: label_of(run, record, n_equal[plain[run]] > 1) for run, record in records.items()}


class Questions:
    """Finds the data files of runs, reads each once, and says what is not there."""

    def __init__(self, data_files: Sequence[Path]) -> None:
        """Look first among these files, then where a run found its own."""
        digests = {path: sha256(path) for path in data_files}
        self._given: dict[str, Files] = {digest: path for path, digest in digests.items()}
        self._given |= {hash_of_files([*digests.values()]): tuple(data_files)} if len(digests) > 1 else {}
        self._read: dict[tuple[str, str, int | None], tuple[Task, list[Example]] | None] = {}
        self.notes: list[str] = []

    def of(self, record: Record, split: str) -> tuple[Task, list[Example]] | None:
        """Return the questions that a run was scored on; None, with a note, if their file is not there any more."""
        wanted, limit = record.hashes.get(f"{split}_file", ""), record.limit_of(split)
        key = record.task, wanted, limit
        if key not in self._read:
            self._read[key] = self._find(record, split, wanted, limit)
        return self._read[key]

    def _find(self, record: Record, split: str, wanted: str, limit: int | None) -> tuple[Task, list[Example]] | None:
        name = record.config.get("validation_file" if split == "dev" else f"{split}_file")
        name = name.get(record.task) if isinstance(name, dict) else name
        own = tuple(map(Path, name)) if isinstance(name, list) else name and Path(name)
        # Of some layouts the hash is that of two files, one of which lies beside what is given.
        tried = dict.fromkeys(filter(None, (self._given.get(wanted), own, *self._given.values())))
        why = [] if tried else ["its file is not there"]
        for files in tried:
            label = ", ".join(map(str, files)) if isinstance(files, tuple) else str(files)
            if not all(path.is_file() for path in (files if isinstance(files, tuple) else (files,))):
                why.append(f"{label} is not there")
                continue
            try:
                task = get_task(record.task)
                examples, report = read_examples(task, files, limit)
            except DataError as error:
                why.append(str(error))
                continue
            if report.sha256 == wanted:
                return task, examples
            why.append(f"{label} has changed" if files == own else f"{label} is another file")
        self.notes.append(
            f"{record.task}, {split}: no questions to look at ({why[0]}); give the file with --data_file "
            f"(SHA-256 {wanted[:8] or 'unknown'})"
        )
        return None


def question_sets(
    runs: Mapping[Path, str], questions: Questions, gold: Gold | None, predictions: Mapping[str, Sequence[Path]]
) -> list[QuestionSet]:
    """Read the answers of runs and prediction files, those to the same questions together.

    Args:
        runs: run directory -> what it is called.
        questions: finds the files.
        gold: what the prediction files are scored against.
        predictions: name -> files, one a seed.

    Raises:
        UsageError, DataError: if a file of a run can't be read.
    """
    found: dict[tuple[str, str, int | None, str], tuple[Task, list[Example], list[System]]] = {}
    for run, label in runs.items():
        for record in run_records(run):
            for split in sorted(record.scores) if record.status == "finished" else ():
                if (read := questions.of(record, split)) is None:
                    continue
                system = _system(run, label, record, split)
                if system is None:
                    questions.notes.append(f"{run}, seed {record.seed}: no predictions or scores of {split} there")
                    continue
                key = record.task, record.hashes.get(f"{split}_file", ""), record.limit_of(split), split
                found.setdefault(key, (*read, []))[-1].append(system)
    if gold is not None and predictions:
        data = gold.task.name, gold.sha256, None
        key = next((key for key in found if key[:3] == data), (*data, "given"))
        found.setdefault(key, (gold.task, list(gold.examples), []))[-1].extend(_systems_of_files(gold, predictions))
    return [QuestionSet(task, key[-1], examples, systems) for key, (task, examples, systems) in found.items()]


def _system(run: Path, label: str, record: Record, split: str) -> System | None:
    directory = seed_directory(run, record.seed)
    paths = [directory / f"{name}_{split}.json" for name in ("predictions", "scores", "nbest_predictions")]
    if not (paths[0].is_file() and paths[1].is_file()):
        return None
    answers = {id: str(answer) for id, answer in read_predictions(paths[0], written_here=True).items()}
    scores = read_scores(paths[1])
    nbest = read_nbest(paths[2], UsageError, _REMEDY) if paths[2].is_file() else {}
    return System(label, record.seed, answers, scores, nbest, record.decode.get("null_score_diff_threshold"))


def _systems_of_files(gold: Gold, predictions: Mapping[str, Sequence[Path]]) -> Iterator[System]:
    for name, paths in predictions.items():
        for number, path in enumerate(paths, start=1):
            answers = read_predictions(path, gold.task, gold.examples)
            scores = gold.score(answers).per_example
            yield System(name, number, {id: str(answer) for id, answer in answers.items()}, scores)
