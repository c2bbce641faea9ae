"""Entries -> tables to print: a row per model, columns per protocol, and footnotes that say what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from experiment.report.against import counterpart, difference
from experiment.report.analysis import Verdicts, verdicts, with_intervals
from experiment.report.entries import Entry, Protocol
from experiment.report.recipes import deviations
from experiment.report.statistics import Interval

Part = Literal["score", "sd", "interval", "delta", "seeds"]
#: What stands there if nobody says what, by the style.
PARTS: Mapping[str, tuple[Part, ...]] = {
    "columns": ("score", "interval", "delta", "seeds"),
    "reference": ("score", "delta", "seeds"),
}
#: Metric -> how a column is headed; others by their names.
TITLES = {"em": "EM", "f1": "F1", "reference_em": "reference EM", "reference_f1": "reference F1", "mrr": "MRR"}
#: Splits whose scores stand beside those of every split.
_ANY_SPLIT = "unstated"
NOT_WORSE = "not significantly worse than the best measured on the same questions"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Layout:
    """What the user chose about the tables.

    Args:
        style: "columns" for a column per metric, "reference" for one with all: `F1:87.521(88.628) EM:67.381(69.152)`.
        parts: what stands of each metric.
        metrics: which; none for those that each entry shows.
        sort: a metric, "model", "given", or "score" for the sum of the metrics shown.
        selections: rules whose scores are shown though nothing published is beside them.
    """

    style: Literal["columns", "reference"] = "columns"
    parts: tuple[Part, ...] = PARTS["columns"]
    metrics: tuple[str, ...] = ()
    sort: str = "score"
    selections: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """What stands in a cell; renderers escape it.

    Args:
        text: plain.
        best: whether it is to stand out.
        not_worse: whether it bears the mark of what is not significantly worse.
        notes: marks of footnotes.
    """

    text: str = ""
    best: bool = False
    not_worse: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """One task's split.

    Args:
        task: name of the task.
        split: of its data.
        header: a cell per column.
        rows: as many cells each.
        notes: mark -> text.
        entries: that stand in it, with their intervals.
        verdicts: on them, by their number.
    """

    task: str
    split: str
    header: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: Mapping[str, str]
    entries: tuple[Entry, ...]
    verdicts: Verdicts = field(default_factory=dict)


def tables(entries: Sequence[Entry], layout: Layout) -> list[Table]:
    """Make a table for each task and split, in the order of their first entries."""
    entries = with_intervals(entries)
    splits = dict.fromkeys((entry.task, entry.split) for entry in entries)
    tasks_with_split = {task for task, split in splits if split != _ANY_SPLIT}
    found = []
    for task, split in splits:
        if split == _ANY_SPLIT and task in tasks_with_split:
            continue
        mine = [entry for entry in entries if entry.task == task and entry.split in (split, _ANY_SPLIT)]
        found.append(_Builder(task, split, _shown(mine, layout), layout).table())
    return found


def _shown(entries: Sequence[Entry], layout: Layout) -> list[Entry]:
    """Leave out scores by rules that nobody asked for, and that nothing published is beside."""
    rules = {"checkpoint", "given", *layout.selections}
    rules |= {entry.protocol.selection for entry in entries if not entry.measured}
    return [entry for entry in entries if not entry.measured or entry.protocol.selection in rules]


@dataclass
class _Row:
    label: str
    entries: list[int]


class _Builder:
    """Makes one table."""

    def __init__(self, task: str, split: str, entries: Sequence[Entry], layout: Layout) -> None:
        self.task, self.split, self.entries, self.layout = task, split, entries, layout
        beside = [metric for entry in entries if not entry.measured for metric in entry.shown]
        self.metrics = {n: _metrics(entry, layout.metrics, beside) for n, entry in enumerate(entries)}
        every = [metric for metrics in self.metrics.values() for metric in metrics]
        self.verdicts = verdicts(entries, list(dict.fromkeys(every)))
        self.protocols = list(dict.fromkeys(sorted((e.protocol for e in entries), key=_protocol_order)))
        self.rows = self._sorted(self._rows())
        self.notes: dict[str, str] = {}

    def table(self) -> Table:
        columns: list[tuple[str, Protocol | None, str, str]] = [("model", None, "", "")]
        seeds = "seeds" in self.layout.parts and any(entry.measured for entry in self.entries)
        columns += [column for protocol in self.protocols for column in self._columns(protocol)]
        header = [self._head(*column) for column in columns] + ([Cell("seeds")] if seeds else [])
        body = []
        for row in self.rows:
            cells = [self._first_cell(row)]
            cells += [
                self._cell(row, protocol, metric, part) for _, protocol, metric, part in columns[1:] if protocol
            ]
            body.append((*cells, *([Cell(self._seeds(row))] if seeds else [])))
        notes = {str(number): protocol.words() for number, protocol in enumerate(self.protocols, start=1)}
        marks = {cell.not_worse for cells in body for cell in cells}
        if True in marks:
            notes["†"] = f"{NOT_WORSE} (paired test over questions and seeds, Holm, 5 %)"
        notes |= self.notes
        entries = tuple(self._with_metrics(entry) for entry in self.entries)
        return Table(self.task, self.split, tuple(header), tuple(body), notes, entries, self.verdicts)

    def _with_metrics(self, entry: Entry) -> Entry:
        """Leave the values that were asked for, or all."""
        chosen = self.layout.metrics
        return replace(entry, values={n: v for n, v in entry.values.items() if n in chosen}) if chosen else entry

    def _rows(self) -> list[_Row]:
        labels: dict[tuple[str, str], _Row] = {}
        for number, entry in enumerate(self.entries):
            if entry.measured:
                labels.setdefault((entry.kind + entry.detail, entry.model), _Row(entry.model, [])).entries.append(
                    number
                )
        rows = list(labels.values())
        n_equal = Counter(row.label for row in rows)
        for row in rows:
            first = self.entries[row.entries[0]]
            if n_equal[row.label] > 1:
                row.label = f"{row.label} ({first.detail or first.kind})"
        known = {name for row in rows for name in (self.entries[row.entries[0]].known_as,) if name}
        others: dict[str, _Row] = {}
        for number, entry in enumerate(self.entries):
            if entry.measured:
                continue
            if entry.known_as in known:
                for row in rows:
                    if self.entries[row.entries[0]].known_as == entry.known_as:
                        row.entries.append(number)
            else:
                name = entry.known_as or entry.model
                others.setdefault(name, _Row(name, [])).entries.append(number)
        for row in (*rows, *others.values()):
            published = {self.entries[n].model for n in row.entries if not self.entries[n].measured} - {row.label}
            distinct = {name.casefold(): name for name in sorted(published, reverse=True)}
            if distinct:
                row.label = f"{row.label} ({', '.join(sorted(distinct.values()))})"
        return [*rows, *others.values()]

    def _sorted(self, rows: list[_Row]) -> list[_Row]:
        sort = self.layout.sort
        if sort == "given":
            return rows
        if sort == "model":
            return sorted(rows, key=lambda row: row.label.casefold())

        def key(row: _Row) -> tuple[int, float]:
            for place, protocol in enumerate(self.protocols):
                number = self._entry(row, protocol)
                if number is None:
                    continue
                metrics = self.metrics[number] if sort == "score" else (sort,)
                values = [v.main for m in metrics if (v := self.entries[number].values.get(m)) is not None]
                numbers = [value for value in values if value is not None]
                if numbers:
                    return place, -sum(numbers)
            return len(self.protocols), 0.0

        return sorted(rows, key=key)

    def _entry(self, row: _Row, protocol: Protocol) -> int | None:
        return next((number for number in row.entries if self.entries[number].protocol == protocol), None)

    def _columns(self, protocol: Protocol) -> Iterator[tuple[str, Protocol | None, str, str]]:
        of_it = [number for number, entry in enumerate(self.entries) if entry.protocol == protocol]
        metrics = dict.fromkeys(metric for number in of_it for metric in self.metrics[number])
        measured = self.entries[of_it[0]].measured
        if self.layout.style == "reference":
            yield "score", protocol, "", "all"
        for metric in metrics:
            title = TITLES.get(metric, metric)
            if self.layout.style == "columns" and "score" in self.layout.parts:
                yield title, protocol, metric, "score"
            if measured and "sd" in self.layout.parts:
                yield f"sd {title}", protocol, metric, "sd"
            if measured and "interval" in self.layout.parts and self._has_interval(of_it, metric):
                yield f"95 % {title}", protocol, metric, "interval"
            if not measured and "delta" in self.layout.parts and self._has_delta(protocol, metric):
                yield f"Δ {title}", protocol, metric, "delta"

    def _has_interval(self, numbers: Sequence[int], metric: str) -> bool:
        values = [self.entries[number].values.get(metric) for number in numbers]
        return any(value is not None and value.interval is not None for value in values)

    def _has_delta(self, protocol: Protocol, metric: str) -> bool:
        return any(self._delta(row, protocol, metric) for row in self.rows)

    def _head(self, title: str, protocol: Protocol | None, metric: str, part: str) -> Cell:
        return Cell(title, notes=() if protocol is None else (str(self.protocols.index(protocol) + 1),))

    def _first_cell(self, row: _Row) -> Cell:
        said = [
            f"{self.entries[n].model}: {text}"
            for n in row.entries
            for text in (*self.entries[n].notes, self._deviations(row, self.entries[n]))
            if text
        ]
        return Cell(row.label, notes=tuple(self._note(text) for text in dict.fromkeys(said)))

    def _counterpart(self, row: _Row, published: Entry) -> Entry | None:
        return counterpart(published, [self.entries[n] for n in row.entries if self.entries[n].measured])

    def _deviations(self, row: _Row, entry: Entry) -> str:
        ours = None if entry.measured else self._counterpart(row, entry)
        return "" if ours is None else deviations(entry, ours)

    def _note(self, text: str) -> str:
        for mark, known in self.notes.items():
            if known == text:
                return mark
        number = len(self.notes)
        mark = _LETTERS[number % 26] * (number // 26 + 1)
        self.notes[mark] = text
        return mark

    def _cell(self, row: _Row, protocol: Protocol, metric: str, part: str) -> Cell:
        number = self._entry(row, protocol)
        if number is None:
            return Cell()
        entry = self.entries[number]
        if part == "all":
            return self._all_in_one(number)
        if part == "delta":
            return Cell(self._delta(row, protocol, metric))
        value = entry.values.get(metric)
        if value is None:
            return Cell()
        if part == "score":
            verdict = self.verdicts.get((number, metric))
            not_worse = verdict is not None and verdict.not_worse
            return Cell(value.text, self._is_best(number, metric), not_worse)
        if part == "sd":
            return Cell(f"{value.sd:.3f}" if value.sd is not None else "-")
        return Cell(interval_text(value.interval))

    def _all_in_one(self, number: int) -> Cell:
        entry = self.entries[number]
        metrics = [metric for metric in self.metrics[number] if metric in entry.values]
        text = " ".join(f"{TITLES.get(m, m).replace(' ', '_')}:{entry.values[m].text}" for m in metrics)
        verdicts = [self.verdicts.get((number, metric)) for metric in metrics]
        not_worse = all(verdict is not None and (verdict.best or verdict.not_worse) for verdict in verdicts)
        best = bool(metrics) and all(self._is_best(number, metric) for metric in metrics)
        return Cell(text, best, not_worse and not best and bool(metrics))

    def _is_best(self, number: int, metric: str) -> bool:
        entry = self.entries[number]
        rivals = [
            value.main
            for other in self.entries
            if other.protocol == entry.protocol and other.kind != "human" and not other.is_suspect
            if (value := other.values.get(metric)) is not None and value.main is not None
        ]
        own = entry.values[metric].main
        if own is None or entry.is_suspect:
            return False
        if len(rivals) > 1:
            return own == max(rivals)
        # Alone in its column, it may still be the best of what other columns have of the same questions.
        verdict = self.verdicts.get((number, metric))
        return verdict is not None and verdict.best

    def _delta(self, row: _Row, protocol: Protocol, metric: str) -> str:
        number = self._entry(row, protocol)
        if number is None:
            return ""
        found = difference(self.entries[number], self._counterpart(row, self.entries[number]), metric)
        return found.text if found is not None else ""

    def _seeds(self, row: _Row) -> str:
        entry = next((self.entries[n] for n in row.entries if self.entries[n].measured), None)
        return "" if entry is None else seeds_text(entry)


def _metrics(entry: Entry, chosen: Sequence[str], beside: Sequence[str]) -> tuple[str, ...]:
    """Return what is shown of an entry: what was chosen, or its own and that of the published scores beside it."""
    names = chosen or (*entry.shown, *(beside if entry.measured else ()))
    known = [name for name in dict.fromkeys(names) if name in entry.values]
    return tuple(known if chosen else sorted(known, key=_metric_order))


def _metric_order(metric: str) -> tuple[int, str]:
    # Sources differ in which of the two comes first; in a table they must not.
    first = ("f1", "em", "reference_f1", "reference_em")
    return (first.index(metric), "") if metric in first else (len(first), metric)


def _protocol_order(protocol: Protocol) -> tuple[bool, int, str]:
    rules = ("checkpoint", "given", "each_best", "best_dev")
    rank = rules.index(protocol.selection) if protocol.selection in rules else len(rules)
    return bool(protocol.source), rank if not protocol.source else 0, ""


def interval_text(interval: Interval | None) -> str:
    """Format an interval; "-" for none. One over the questions alone says so."""
    if interval is None:
        return "-"
    return f"{interval.low:.2f} to {interval.high:.2f}{'' if interval.over_seeds else ' (one seed)'}"


def seeds_text(entry: Entry) -> str:
    """Say how many seeds something measured has, and what is wrong with some."""
    remarks = [f"{entry.n_collapsed} did not learn"] if entry.n_collapsed else []
    remarks += [f"{entry.n_unfinished} unfinished"] if entry.n_unfinished else []
    return entry.protocol.n_runs + (f" ({', '.join(remarks)})" if remarks else "")
