"""What each of several methods adds; what `--help` reads here stays quick to import."""

from __future__ import annotations

from experiment.options.searching import AblateOptions


def ablate(options: AblateOptions) -> int:
    """Carry it out."""
    from experiment.grid.ablation import ablate as work

    return work(options)
