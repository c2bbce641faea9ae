"""What is said of runs: tables, the page, the card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from experiment.options.data import Count
from experiment.options.fields import POSITIONAL


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """What the page is made of."""

    runs: Annotated[tuple[Path, ...], POSITIONAL] = ()
    """Run directories, or one that holds several, such as a grid's."""
    data_file: tuple[Path, ...] = ()
    """Files with the questions, any number; a run finds its own by its hash (default: where the run found them)."""
    predictions: tuple[str, ...] = ()
    """Prediction files of any toolkit, name=FILE; files of one name are seeds. Needs --task and one --data_file."""
    task: str | None = None
    """Task whose metric scores --predictions, such as cmrc2018 (`tasks` lists them)."""
    n_best: Count = 5
    """Candidates of each n-best list that the page shows."""
    title: str = "Machine reading comprehension"
    """Title of the page."""


@dataclass(frozen=True, kw_only=True)
class CardInputs:
    """What the card says, and where it goes."""

    run: Annotated[Path, POSITIONAL]
    """Run directory."""
    seed: int | None = None
    """Seed whose checkpoint the card describes (default: the best on dev)."""
    dataset_id: str | None = None
    """Data set on the hub, such as owner/name (default: where the task's is known to be)."""
    push_to_hub: str | None = None
    """Repository on the hub, owner/name, that gets the card; made if it is not there."""
    weights: bool = False
    """With --push_to_hub: upload the checkpoint as well."""
    private: bool = False
    """With --push_to_hub: a new repository is private."""
