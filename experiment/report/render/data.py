"""Leaderboards as data: every number in full, a line per model, protocol and metric."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from experiment.io.text import one_line
from experiment.report.against import counterpart, difference
from experiment.report.board import Table
from experiment.report.entries import Entry

#: What makes a spreadsheet take a text for a formula, in both widths.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_PROTOCOL = "protocol_"


def facts(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Return a flat record of each value; numbers in percent, None for what is not known."""
    # What was published without its split stands in the tables of all splits, and here once.
    unique = {tuple(fact.items()): fact for table in tables for fact in _facts(table)}
    return list(unique.values())


def _facts(table: Table) -> Iterator[dict[str, Any]]:
    for number, entry in enumerate(table.entries):
        for metric, value in entry.values.items():
            verdict = table.verdicts.get((number, metric))
            interval = value.interval
            fact = {
                "task": entry.task,
                "split": entry.split,
                "model": entry.model,
                "checkpoint": entry.known_as,
                "kind": entry.kind,
                "where": entry.detail,
                "metric": metric,
                "mean": value.mean,
                "max": value.max,
                "sd": value.sd,
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "interval_over_seeds": interval.over_seeds if interval else None,
                "n_unfinished": entry.n_unfinished,
                "n_did_not_learn": entry.n_collapsed,
                "best": verdict.best if verdict else None,
                "minus_best": verdict.difference if verdict else None,
                "p_holm": verdict.p if verdict else None,
                "not_worse_than_best": verdict.best or verdict.not_worse if verdict else None,
                **{f"{_PROTOCOL}{name}": text for name, text in asdict(entry.protocol).items()},
                "hyperparameters": ", ".join(f"{name} {text}" for name, text in entry.hyperparameters.items()),
                "notes": "; ".join(entry.notes),
            }
            yield from _beside(fact, entry, metric, table)


def _beside(fact: dict[str, Any], entry: Entry, metric: str, table: Table) -> Iterator[dict[str, Any]]:
    """Yield the record of a published value for each model that it stands beside, once if there is none."""
    runs: dict[tuple[str, str, str], list[Entry]] = {}
    for other in table.entries:
        if not entry.measured and other.measured and entry.known_as and other.known_as == entry.known_as:
            runs.setdefault((other.kind, other.detail, other.model), []).append(other)
    found = {name: difference(entry, counterpart(entry, measured), metric) for name, measured in runs.items()}
    for (_, where, model), against in found.items() or [(("", "", ""), None)]:
        yield {
            **fact,
            "beside": f"{model} ({where})" if where else model,
            "ours_minus_published": against.points if against else None,
            "reproduced": against.reproduced if against else None,
        }


def as_json(tables: Sequence[Table]) -> str:
    """Format as a JSON list of records."""
    return json.dumps(facts(tables), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def as_csv(tables: Sequence[Table]) -> str:
    """Format as CSV; a text that a spreadsheet would compute gets an apostrophe in front."""
    records = facts(tables)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]) if records else ["task"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _csv_cell(value) for name, value in record.items()} for record in records)
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    line = one_line(value)
    return f"'{line}" if line.startswith(_FORMULA) else line
