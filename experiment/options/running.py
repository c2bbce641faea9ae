"""Options about the run directory, the log and going on after an interruption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from experiment.options.data import Count
from experiment.options.fields import AT_LEAST_0, Rule

#: Names of `experiment.io.trackers`, which is not imported for --help.
_NAMES = ("tensorboard", "mlflow", "wandb", "swanlab", "trackio", "none")
_TRACKER = Rule(
    f"one or more of {', '.join(_NAMES)}", lambda text: all(name.strip() in _NAMES for name in text.split(","))
)

#: What a user of an unfinished run is told; with the option it would be deleted.
GOES_ON = "the same command goes on (without --overwrite_output_dir)"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Run directory, logging, resuming."""

    output_dir: Path
    """Run directory; a finished run in it is never overwritten without --overwrite_output_dir."""
    overwrite_output_dir: bool = False
    """Delete what the run directory holds and start anew."""
    logging_steps: Count = 50
    """Steps per line of the log."""
    report_to: tuple[Annotated[str, _TRACKER], ...] = ("tensorboard",)
    """Who gets the curves: tensorboard, mlflow, wandb, swanlab, trackio, or none; several with commas or blanks."""
    profile: bool = False
    """Write a profiler's trace of a few steps of each seed."""
    save_steps: Annotated[int, AT_LEAST_0] | None = None
    """Steps per training checkpoint, from which the same command goes on; 0 for none (default: one after each
    evaluation, and every 10 minutes between them). SIGTERM and Ctrl-C leave one, too, where the disk has room."""
    save_total_limit: Count = 2
    """Training checkpoints that are kept; all are deleted when the seed is finished."""
    max_nonfinite_steps: Count = 20
    """Stop after so many steps in a row whose loss or gradients are not finite."""
