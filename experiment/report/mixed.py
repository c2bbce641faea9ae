"""Rows of the plain table that can't be compared: what differs between the protocols of their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from experiment.report.entries import Protocol
from experiment.report.measured import protocol_of
from experiment.training.record import run_records, runs_in

#: What two runs of a task may differ in -> what it is called; the rest is the same for all runs.
_DIFFERING = {
    "scorer": "metric",
    "data": "data",
    "n_runs": "number of seeds",
    "max_seq_length": "length",
    "max_answer_length": "longest answer",
    "other": "more of the protocol",
}


def mixed(runs: Sequence[Path]) -> Iterator[str]:
    """Yield a line for each task and split whose scores are of different protocols, and yet stand in one column.

    Raises:
        UsageError: if a directory holds no Record.
    """
    found: dict[tuple[str, str], list[Protocol]] = {}
    for part in (part for run in runs for part in runs_in(run)):
        finished = [record for record in run_records(part) if record.status == "finished"]
        for split in dict.fromkeys(split for record in finished for split in record.scores):
            scored = [record for record in finished if split in record.scores]
            found.setdefault((scored[0].task, split), []).append(protocol_of(scored[0], split, len(scored)))
    for (task, split), protocols in found.items():
        if differing := list(_differing(protocols)):
            yield (
                f"{task}, {split}: rows differ in {', '.join(differing)}: not to be compared; --format markdown "
                "gives each protocol a column of its own"
            )


def _differing(protocols: Sequence[Protocol]) -> Iterator[str]:
    for name, what in _DIFFERING.items():
        texts = {getattr(protocol, name) for protocol in protocols}
        if len(texts) > 1:
            yield f"{what} ({', '.join(sorted(text or 'not known' for text in texts))})"
