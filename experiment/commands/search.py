"""A search for the best setting; what `--help` reads here stays quick to import."""

from __future__ import annotations

from experiment.options.searching import SearchOptions


def search(options: SearchOptions) -> int:
    """Carry it out."""
    from experiment.search.worker import search as work

    return work(options)
