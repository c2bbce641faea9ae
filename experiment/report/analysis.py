"""Entries -> their intervals, which of them is best, and which are not worse than it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiment.report.entries import Entry, Value
from experiment.report.statistics import LEVEL, Comparison, Interval, Sample, compare, holm, intervals

#: Selection rules whose scores are compared: of the others one is a choice among those, one is not a checkpoint's.
_COMPARED = ("checkpoint", "given")


@dataclass(frozen=True)
class Verdict:
    """How a model stands to the best that was measured on the same questions.

    Args:
        best: whether it is that one.
        difference: its mean minus the best one's, in percent.
        p: of the paired test against the best, corrected for all tests of the table; 1 of the best itself.
        interval: of the difference; None of the best itself.
    """

    best: bool
    difference: float
    p: float
    interval: Interval | None = None

    @property
    def not_worse(self) -> bool:
        """Whether it is not significantly worse than the best."""
        return not self.best and self.p >= 1 - LEVEL


#: (number of the entry, metric) -> its verdict.
Verdicts = dict[tuple[int, str], Verdict]


def with_intervals(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with the interval of every value whose scores per question are known.

    The scores by the reference system's rule are those of other evaluations, whose answers are not kept; their mean
    gets the interval of the selected checkpoints' mean, moved.
    """
    found: dict[tuple[int, str], Interval] = {}
    by_size: defaultdict[int, list[tuple[int, str, Sample]]] = defaultdict(list)
    for number, entry in enumerate(entries):
        for metric, sample in entry.samples.items():
            if (n_contexts := int(sample.groups.max()) + 1) > 1:
                by_size[n_contexts].append((number, metric, sample))
    for group in by_size.values():
        for (number, metric, _), interval in zip(group, intervals([s for *_, s in group]), strict=True):
            # Where all contexts have equal scores nothing is known of their scatter.
            if interval.low < interval.high:
                found[number, metric] = interval
    result = [
        replace(e, values={m: replace(v, interval=_in_percent(found.get((i, m)))) for m, v in e.values.items()})
        for i, e in enumerate(entries)
    ]
    selected = {(e.detail, e.task, e.split): e for e in result if e.protocol.selection == "checkpoint"}
    return [
        _moved(entry, selected[entry.detail, entry.task, entry.split])
        if entry.kind == "run" and entry.protocol.selection == "each_best"
        else entry
        for entry in result
    ]


def _in_percent(interval: Interval | None) -> Interval | None:
    if interval is None:
        return None
    return replace(interval, low=max(0.0, interval.low), high=min(100.0, interval.high))


def _moved(entry: Entry, selected: Entry) -> Entry:
    def moved(metric: str, value: Value) -> Value:
        there = selected.values.get(metric)
        if there is None or there.interval is None or there.mean is None or value.mean is None:
            return value
        by = value.mean - there.mean
        interval = replace(there.interval, low=there.interval.low + by, high=there.interval.high + by)
        return replace(value, interval=_in_percent(interval))

    return replace(entry, values={metric: moved(metric, value) for metric, value in entry.values.items()})


def verdicts(entries: Sequence[Entry], metrics: Sequence[str]) -> Verdicts:
    """Compare what was measured on the same questions by the same metric with the best of it.

    Args:
        entries: of one table; all its tests are corrected together, by Holm's method.
        metrics: that the table shows.
    """
    groups: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        if entry.samples and entry.protocol.selection in _COMPARED:
            for metric in entry.samples.keys() & set(metrics):
                groups[metric, entry.protocol.scorer, entry.protocol.data, entry.ids].append(number)
    found: Verdicts = {}
    tests: list[tuple[int, str]] = []
    comparisons: list[Comparison] = []
    for key in sorted(groups, key=lambda key: (str(key[0]), groups[key])):
        numbers, metric = groups[key], str(key[0])
        if len(numbers) < 2 or not entries[numbers[0]].samples[metric].groups.any():
            continue
        best = max(numbers, key=lambda number: entries[number].samples[metric].mean)
        found[best, metric] = Verdict(True, 0.0, 1.0)
        others = [number for number in numbers if number != best]
        tests += [(number, metric) for number in others]
        comparisons += compare([(entries[n].samples[metric], entries[best].samples[metric]) for n in others])
    for test, comparison, p in zip(tests, comparisons, holm([c.p for c in comparisons]), strict=True):
        found[test] = Verdict(False, comparison.difference, p, comparison.interval)
    return found
