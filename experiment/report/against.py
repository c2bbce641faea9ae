"""Ours beside a published score: the difference, and whether the number was reproduced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiment.report.entries import Entry

#: Selection rule of a published score -> that of ours which is compared with it.
_LIKE = {"each_best": "each_best", "best_dev": "best_dev"}


@dataclass(frozen=True)
class Difference:
    """Ours minus a published score.

    Args:
        points: in percent.
        reproduced: whether the published mean lies in our interval, is known to be of the same metric and data, and
            nothing is known that makes the number another one, or one not to be trusted.
    """

    points: float
    reproduced: bool

    @property
    def text(self) -> str:
        """`+0.12`, with the word where it is deserved."""
        return f"{self.points:+.2f}{' reproduced' if self.reproduced else ''}"


def counterpart(published: Entry, measured: Sequence[Entry]) -> Entry | None:
    """Return which of a run's entries is compared with a published one: that of the same rule, if there is one."""
    rule = _LIKE.get(published.protocol.selection)
    by_rule = {entry.protocol.selection: entry for entry in measured}
    return by_rule.get(rule or "") or by_rule.get("checkpoint") or by_rule.get("given")


def difference(published: Entry, ours: Entry | None, metric: str) -> Difference | None:
    """Return ours minus the published score; None where one of them is missing or the metrics are known to differ."""
    if ours is None or published.metric_is_ours == "other":
        return None
    theirs, own = published.values.get(metric), ours.values.get(metric)
    if theirs is None or own is None:
        return None
    there = theirs.main
    here = own.max if published.protocol.order == "max_only" else own.main
    if there is None or here is None:
        return None
    reproduced = (
        published.comparable
        and not published.is_suspect
        and not ours.trained_otherwise
        and ours.published_file == published.split
        and not _lengths_differ(published, ours)
        and theirs.mean is not None
        and own.interval is not None
        and own.interval.holds(theirs.mean)
    )
    return Difference(here - there, reproduced)


def _lengths_differ(published: Entry, ours: Entry) -> bool:
    there, here = published.protocol.max_seq_length, ours.protocol.max_seq_length
    return bool(there and here) and there != here
