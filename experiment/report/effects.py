"""What each of several settings does beside the first one: differences on the same questions, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experiment.report.analysis import with_intervals
from experiment.report.board import TITLES, Cell, Table, interval_text, seeds_text
from experiment.report.entries import Entry
from experiment.report.remarks import differences
from experiment.report.statistics import Comparison, compare, holm

#: What a difference of the table is, for its footnote.
_NOTE = "difference to {base}, paired over questions, with its 95 % interval over questions and seeds"
_P = "p of no difference, corrected for all tests of the table by Holm's method"


def effects(rows: Sequence[Sequence[Entry]]) -> list[Table]:
    """Make a table for each task and split of the first row.

    Args:
        rows: what was measured under each setting, the base first; of one that is not finished nothing, which leaves
            it out.
    """
    base, *others = rows
    tables = []
    for first in base:
        same = [entry for row in others for entry in row if (entry.task, entry.split) == (first.task, first.split)]
        tables.append(_table(with_intervals([first, *same])))
    return tables


def _table(entries: Sequence[Entry]) -> Table:
    base, metrics = entries[0], list(entries[0].shown)
    tests = [
        (number, metric)
        for number, entry in enumerate(entries[1:], start=1)
        for metric in metrics
        if _paired(base, entry, metric)
    ]
    found = [compare([(entries[number].samples[metric], base.samples[metric])])[0] for number, metric in tests]
    ps = dict(zip(tests, holm([comparison.p for comparison in found]), strict=True))
    comparisons = dict(zip(tests, found, strict=True))
    header = [Cell("setting")]
    for metric in metrics:
        title = TITLES.get(metric, metric)
        header += [Cell(title), Cell(f"95 % {title}"), Cell(f"Δ {title}", notes=("1",)), Cell("p", notes=("2",))]
    notes = {"1": _NOTE.format(base=base.model), "2": _P, "3": f"of {base.model}: {base.protocol.words()}"}
    marks: dict[int, str] = {}
    for number, entry in enumerate(entries):
        # Seeds that are not finished leave the others comparable.
        if differing := ", ".join(differences([base.protocol, replace(entry.protocol, n_runs=base.protocol.n_runs)])):
            marks[number] = str(len(notes) + 1)
            notes[marks[number]] = f"not to be compared with {base.model}, from which it differs in {differing}"
    body = []
    for number, entry in enumerate(entries):
        cells = [Cell(entry.model, notes=(marks[number],) if number in marks else ())]
        for metric in metrics:
            value = entry.values[metric]
            cells += [Cell(value.text), Cell(interval_text(value.interval))]
            cells += _difference(comparisons.get((number, metric)), ps.get((number, metric)), base, entry, metric)
        body.append((*cells, Cell(seeds_text(entry))))
    return Table(base.task, base.split, (*header, Cell("seeds", notes=("3",))), tuple(body), notes, tuple(entries))


def _paired(base: Entry, entry: Entry, metric: str) -> bool:
    """Whether both have scores of the same questions, which are of more than one text."""
    if entry.ids != base.ids or not {metric} <= entry.samples.keys() & base.samples.keys():
        return False
    return bool(base.samples[metric].groups.any())


def _difference(
    comparison: Comparison | None, p: float | None, base: Entry, entry: Entry, metric: str
) -> tuple[Cell, Cell]:
    there, here = base.values[metric].main, entry.values[metric].main
    if entry is base or there is None or here is None:
        return Cell("-"), Cell("-")
    if comparison is None or p is None:
        return Cell(f"{here - there:+.3f}"), Cell("-")
    return Cell(f"{comparison.difference:+.3f} ({_signed(comparison)})"), Cell(f"{p:.3f}")


def _signed(comparison: Comparison) -> str:
    interval = comparison.interval
    return f"{interval.low:+.2f} to {interval.high:+.2f}{'' if interval.over_seeds else ', one seed'}"
