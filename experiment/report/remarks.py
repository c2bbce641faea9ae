"""What a reader of the plain table should know: which seeds did not learn, and which rows can't be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from experiment.io.predictions import read_predictions
from experiment.report.entries import Protocol
from experiment.report.failures import did_not_learn, failure_of
from experiment.report.measured import protocol_of
from experiment.training.record import run_records, runs_in, seed_directory
from preprocess.base.errors import DataError

#: What two runs of a task may differ in -> what it is called; the rest is the same for all runs.
_DIFFERING = {
    "scorer": "metric",
    "data": "data",
    "n_runs": "number of seeds",
    "max_seq_length": "length",
    "max_answer_length": "longest answer",
    "other": "more of the protocol",
}


def remarks(runs: Sequence[Path], within: Path | None = None) -> list[str]:
    """Return a line for each seed that did not learn, and for each task and split whose rows can't be compared.

    Args:
        runs: run directories.
        within: directory that they are named from; None for their whole paths.

    Raises:
        UsageError: if a directory holds no Record.
    """
    parts = [part for run in runs for part in runs_in(run)]
    return [*(line for part in parts for line in _failures(part, within)), *_mixed(parts)]


def with_remarks(table: str, lines: Sequence[str]) -> str:
    """Return a table in Markdown with remarks below it."""
    return table + "".join(f"\n{line}\n" for line in lines)


def _failures(run: Path, within: Path | None) -> Iterator[str]:
    where = "" if run == within else f"{run if within is None else run.relative_to(within)}: "
    for record in run_records(run):
        if record.status != "finished":
            continue
        try:
            answers = read_predictions(seed_directory(run, record.seed) / "predictions_dev.json", written_here=True)
        except DataError:
            answers = None  # gone or damaged: the scores tell most of it
        if why := did_not_learn(record.scores.get("dev", {}), answers) or failure_of(record):
            yield f"{where}seed {record.seed} did not learn, and is in the mean ({why})"


def _mixed(runs: Sequence[Path]) -> Iterator[str]:
    found: dict[tuple[str, str], list[Protocol]] = {}
    for run in runs:
        finished = [record for record in run_records(run) if record.status == "finished"]
        for split in dict.fromkeys(split for record in finished for split in record.scores):
            scored = [record for record in finished if split in record.scores]
            found.setdefault((scored[0].task, split), []).append(protocol_of(scored[0], split, len(scored)))
    for (task, split), protocols in found.items():
        if differing := list(differences(protocols)):
            yield (
                f"{task}, {split}: rows differ in {', '.join(differing)}: not to be compared; `leaderboard "
                "--format markdown` gives each protocol a column of its own"
            )


def differences(protocols: Sequence[Protocol]) -> Iterator[str]:
    """Yield what differs between the protocols of runs of one task, in words."""
    for name, what in _DIFFERING.items():
        texts = {getattr(protocol, name) for protocol in protocols}
        if len(texts) > 1:
            yield f"{what} ({', '.join(sorted(text or 'not known' for text in texts))})"
