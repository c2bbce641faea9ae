"""Options of the commands that train a run many times: each time with other settings, or with a method more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from experiment.options.data import Count
from experiment.options.fields import AT_LEAST_ONE, MAPPING
from experiment.options.flags import TrainOptions
from experiment.options.grid import GridView, GridWorkers
from experiment.options.optimisation import Seed, Seeds


@dataclass(frozen=True, kw_only=True)
class SearchChoices:
    """Search."""

    space: Annotated[tuple[str, ...], MAPPING] = ()
    """What is searched, as YAML, or a file with it: option of train and its values, such as
    `learning_rate: {low: 1e-5, high: 5e-5, log: true}` or `num_train_epochs: [2, 3]`. What stands later wins."""
    preset: Literal["published"] | None = None
    """A known space, to which --space may add: the rates, warm-ups and epochs of the published tables."""
    n_trials: Count | None = None
    """Trials of all workers together (default: 12; with --sampler grid every combination)."""
    trial_seeds: Seeds = (42,)
    """Seeds of every trial, over which its score is the mean; --seeds, those of the result, are others."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """Who chooses: what has done well, chance, or every combination once."""
    pruner: Literal["median", "halving", "none"] = "median"
    """Which trials end early, by their evaluations: those below the median of the others, all but the best part at
    each doubling, or none."""
    search_seed: Seed = 0
    """Seed of the sampler."""
    storage: Literal["journal", "sqlite"] = "journal"
    """What the trials are noted in: a journal, which several machines may share, or an SQLite file of one machine."""
    keep_checkpoints: bool = False
    """Keep the best checkpoint of every trial, and not only that of the best one."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions(SearchChoices, TrainOptions):
    """Search options of train for the best score on dev, and write a grid that trains the best with fresh seeds.

    Several workers are the same command, started several times; the same command goes on after an interruption.

    Examples:
        search --config runs/roberta/config.yaml --preset published --output_dir searches/roberta
        search --config runs/roberta/config.yaml --space "learning_rate: {low: 1e-5, high: 1e-4, log: true}" \
            --n_trials 20 --output_dir searches/rate
        search --config examples/demo.yaml --space "num_train_epochs: [1, 2, 3]" --sampler grid --pruner none \
            --output_dir searches/demo
    """

    output_dir: Path
    """Gets a run directory for each trial, their table, and grid.yaml."""


@dataclass(frozen=True, kw_only=True)
class AblationChoices:
    """Ablation."""

    switches: Annotated[tuple[str, ...], AT_LEAST_ONE]
    """What is tried beside the base, with commas or blanks: a method by name (fgm, pgd, ema, rdrop, llrd, smoothing,
    reinit, freeze, lora, stopping), one with a value (fgm=0.5), or any option of train (warmup_ratio=0.06); with "+"
    between them several as one."""
    together: bool = True
    """Also train with all of them at once."""


@dataclass(frozen=True, kw_only=True)
class AblateOptions(AblationChoices, GridWorkers, GridView, TrainOptions):
    """Train a base, each method alone and all together over seeds, and print what each of them adds, with intervals.

    It is a grid (docs/grid.md), and goes on as one.

    Examples:
        ablate --config runs/roberta/config.yaml --switches fgm,ema,rdrop --output_dir runs/ablation
        ablate --config runs/roberta/config.yaml --switches fgm fgm=0.5 lora_rank=4+learning_rate=3e-4 \
            --no_together --output_dir runs/ablation
        ablate --config examples/demo.yaml --switches ema=0.99 smoothing --output_dir runs/demo-ablation
    """

    output_dir: Path
    """Gets a run directory for the base, each switch and all together."""
