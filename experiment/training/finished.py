"""What a finished run offers to those who use it: its best seed, and the checkpoint of that seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiment.training.record import FILE_NAME, Record, run_of, run_records, seed_directory
from experiment.training.rundir import BEST
from preprocess.base.errors import UsageError
from pretrained_configs.checkpoint import Checkpoint, read_checkpoint

#: How the name of a run ends that a grid has set aside.
_SET_ASIDE = re.compile(r"~\d+$")


class Trained(NamedTuple):
    """A fine-tuned checkpoint, and the framework that trained it."""

    checkpoint: Path
    framework: str


def is_run(path: Path) -> bool:
    """Tell whether a directory is a run's, without reading a Record."""
    return any(path.glob(f"seed_*/{FILE_NAME}"))


def each_run(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return run directories, each once; a directory of several, such as a grid's, stands for all of them.

    What a grid has set aside ("model.task.pytorch~1") is none of its runs any more.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() and not is_run(path) else []
        found += [each for each in inside if is_run(each) and not _SET_ASIDE.search(each.name)] or [path]
    return tuple(dict.fromkeys(found))


def best_seed(run: Path) -> Record:
    """Return the finished seed of a run that is best on dev.

    Raises:
        UsageError: if the directory is no run, or none of its seeds is finished.
    """
    finished = [record for record in run_records(run) if record.status == "finished"]
    if not finished:
        raise UsageError(f"{run}: no seed of it is finished; run its train command again")
    return max(finished, key=lambda record: sum(record.scores["dev"][name] for name in record.selection))


def read_finetuned(name: str, hidden_act: str | None, task: str | None = None) -> Checkpoint:
    """Read what a name stands for: the checkpoint of a run's best seed, or any other checkpoint.

    Args:
        name: of a run directory, or of a checkpoint.
        hidden_act: activation, where the checkpoint does not say it.
        task: of a run of several tasks, the one whose own best checkpoint is read; None for that of all.

    Raises:
        UsageError, CheckpointError: if there is none, or it can't be used.
    """
    path = Path(name)
    if is_run(path):
        path = path if task is None else run_of(path, task)
        name = str(trained_by(path, best_seed(path)).checkpoint)
    return read_checkpoint(name, hidden_act)


def finished_seeds(run: Path) -> list[Trained]:
    """Return the checkpoints of all seeds of a run that are finished, by seed; none if none is."""
    return [trained_by(run, record) for record in run_records(run) if record.status == "finished"]


def framework_of(checkpoint: Path) -> str:
    """Return what trained a checkpoint that lies in a run directory; PyTorch loads all others."""
    run, name = checkpoint.resolve().parent.parent, checkpoint.resolve().parent.name
    if checkpoint.name == BEST and is_run(run):
        for record in run_records(run):
            if seed_directory(run, record.seed).name == name:
                return trained_by(run, record).framework
    return "pytorch"


def trained_by(run: Path, record: Record) -> Trained:
    """Return the checkpoint that a seed of a run was selected for."""
    return Trained(seed_directory(run, record.seed) / BEST, str(record.config.get("framework", "pytorch")))
