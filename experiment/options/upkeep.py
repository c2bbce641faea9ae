"""Options of the commands that say what there is, and keep this machine tidy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from experiment.options.data import DEFAULT_DATA_DIR, DEFAULT_FEATURE_CACHE
from experiment.options.fields import POSITIONAL
from experiment.options.optimisation import NotNegative


@dataclass(frozen=True, kw_only=True)
class TasksOptions:
    """List the tasks: recipe, and files with size, licence and where they are.

    Examples:
        tasks
        tasks --data_dir data
    """

    data_dir: Path = DEFAULT_DATA_DIR
    """Where downloaded files are looked for."""


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """Fetch a task's published files; an interrupted download goes on where it stopped.

    Examples:
        download --task cmrc2018
        download --task cmrc2018 --splits train dev
        download --task drcd --data_dir data
    """

    task: str
    """Task, such as cmrc2018 (`tasks` lists them)."""
    splits: tuple[str, ...] = ()
    """Only these, such as train dev (default: all that are published)."""
    data_dir: Path = DEFAULT_DATA_DIR
    """Gets a directory per task; `train --task T` looks for its files there."""


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    """List the published models: size, longest input, licence, and where they are.

    Examples:
        models
        models --model_name_or_path chinese-roberta-wwm-ext
        models --json
    """

    model_name_or_path: str | None = None
    """Only this one, a short name or a hub id, with its files, notes and recipes."""
    json: bool = False
    """Print everything that is known, as JSON."""


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Say how much the cached features take, and delete them.

    Examples:
        cache
        cache --prune --older_than 30
        cache --prune --max_size 5
    """

    feature_cache_dir: Path = DEFAULT_FEATURE_CACHE
    """Where features are cached."""
    prune: bool = False
    """Delete features: all of them, or what the next two options say. Runs that use them go on."""
    older_than: NotNegative | None = None
    """With --prune: delete only what was not used for so many days."""
    max_size: NotNegative | None = None
    """With --prune: delete only what was used longest ago, until so many gigabytes are left."""


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """Print a script that lets the shell complete commands, options, tasks and models.

    Examples:
        completion bash >> ~/.bashrc
        completion zsh > ~/.zfunc/_chinese-mrc
        completion fish > ~/.config/fish/completions/chinese-mrc.fish
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], POSITIONAL]
    """The shell."""
