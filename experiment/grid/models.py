"""The models of a grid, and what their directories are called."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiment.training.record import seed_records
from experiment.training.rundir import BEST, is_run
from preprocess.base.errors import UsageError
from pretrained_configs.locate import display_name

_NAMED = re.compile(r"([\w.-]+)=(.+)")


@dataclass(frozen=True)
class GridModel:
    """A model of a grid.

    Args:
        given: as it was typed.
        name: what its directories are called.
        option: of train that takes it.
        path: its value there.
    """

    given: str
    name: str
    option: str
    path: str


def models_of(checkpoints: Sequence[str], architectures: Sequence[str]) -> list[GridModel]:
    """Return the models that were typed.

    Raises:
        UsageError: if two of them would share their directories, or a run directory holds no finished seed.
    """
    models = [model for text in checkpoints for model in _checkpoints(text)]
    models += [_model(text, "config_name") for text in architectures]
    given = defaultdict(list)
    for model in models:
        given[model.name.lower()].append(model.given)  # file systems may ignore case
    if same := [f"{name!r}: {' and '.join(texts)}" for name, texts in given.items() if len(texts) > 1]:
        raise UsageError(f"models of one name: {'; '.join(same)}; give one of them another name, as NAME=CHECKPOINT")
    return models


def _checkpoints(text: str) -> Iterator[GridModel]:
    """Yield what an entry of --models stands for: itself, or the finished seeds of a run."""
    model = _model(text, "model_name_or_path")
    run = Path(model.path)
    if not is_run(run):
        yield model
        return
    finished = [path for path, record in seed_records(run).items() if record.status == "finished"]
    if not finished:
        raise UsageError(f"--models {text}: a run without a finished seed; train it first, or take it out")
    for path in finished:
        best = str(path / BEST)
        yield GridModel(best, f"{model.name}-{path.name}", model.option, best)


def _model(text: str, option: str) -> GridModel:
    match = None if Path(text).exists() else _NAMED.fullmatch(text)
    name, path = match.groups() if match else ("", text)
    path = str(Path(path).expanduser()) if path.startswith("~") else path
    if not name:
        full = display_name(Path(path)) if Path(path).exists() else path.rpartition("/")[2]
        name = re.sub(r"[^\w.-]+", "-", full.removesuffix(f"/{BEST}"))
    return GridModel(text, name, option, path)
