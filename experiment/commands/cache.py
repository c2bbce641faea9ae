"""How much the cached features take, and what teachers said of texts beside them; and deleting both."""

from __future__ import annotations

import time
from collections.abc import Sequence

from experiment.io.terminal import terminal
from experiment.options.flags import CacheOptions
from preprocess.base.errors import UsageError
from preprocess.cache import Entry, entries, prune

_DAY_S = 86400.0


def cache(options: CacheOptions) -> None:
    """Print the entries of the feature cache, the last used first; delete some or all of them if asked to.

    Raises:
        UsageError: if limits are given and nothing is to be deleted.
        OSError: if an entry can't be deleted.
    """
    limits = {"older_than": options.older_than, "max_size": options.max_size}
    given = [f"--{name}" for name, limit in limits.items() if limit is not None]
    if given and not options.prune:
        raise UsageError(f"{' and '.join(given)}: says what --prune deletes; give --prune as well")
    console = terminal()
    if options.prune:
        unused_s = None if options.older_than is None else options.older_than * _DAY_S
        max_bytes = None if options.max_size is None else options.max_size * 1e9
        deleted = prune(options.feature_cache_dir, unused_s=unused_s, max_bytes=max_bytes)
        console.print(f"{options.feature_cache_dir}: deleted {_sum(deleted)}; {_sum(_left(options))} left")
        return
    listed = _left(options)
    console.print(f"{options.feature_cache_dir}: {_sum(listed)}")
    for entry in listed:
        days = (time.time() - entry.used_s) / _DAY_S
        console.print(f"  {entry.path.name}  {_size(entry.n_bytes):>9}  used {days:.1f} days ago")


def _left(options: CacheOptions) -> list[Entry]:
    return entries(options.feature_cache_dir)


def _sum(some: Sequence[Entry]) -> str:
    noun = "entry" if len(some) == 1 else "entries"
    return f"{len(some)} {noun} ({_size(sum(entry.n_bytes for entry in some))})"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
