"""Values -> one HTML file: the templates, the style, the script and the data, nothing of which is fetched."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from experiment.io.text import visible
from experiment.report.board import Table
from experiment.report.page.browser import script_json
from experiment.report.page.mistakes import MISTAKES
from experiment.report.page.plots import Bars, Chart, Strips, draw
from experiment.report.page.views import View

#: The number that a cell begins with.
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Training:
    """How the models of a task were trained, and their spread: charts of one task."""

    task: str
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Spread:
    """Scores of all seeds on one task's split."""

    title: str
    strips: Sequence[Strips]


@dataclass(frozen=True)
class Origin:
    """Where a run comes from: what it is called, its directory, the command, and facts as (name, text)."""

    model: str
    run: str
    command: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Args:
        title: of the page.
        tables: leaderboards.
        trainings: of each task.
        spreads: of each task's split.
        views: of each set of questions.
        origins: of each run.
        data: what the error browser reads.
        notes: what could not be shown, and why.
        version: of this program.
    """

    title: str
    tables: Sequence[Table]
    trainings: Sequence[Training]
    spreads: Sequence[Spread]
    views: Sequence[View]
    origins: Sequence[Origin]
    data: Mapping[str, Any]
    notes: Sequence[str]
    version: str

    @property
    def words(self) -> Mapping[str, str]:
        """Type of a mistake -> in words."""
        return MISTAKES


def html(page: Page) -> str:
    """Return the file.

    Text of users and data is escaped by the environment wherever it stands, and what can't be seen or turns the
    direction of writing is shown by its code. A policy in the file itself keeps anything from being fetched, and any
    script but ours from being run.
    """
    environment = _environment()
    script, style = _source("page.js"), _source("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.j2").render(
        page=page,
        script=Markup(script),
        style=Markup(style),
        digest=digest,
        data=Markup(script_json(page.data)),
        sort_key=_sort_key,
        plot=_plot,
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("experiment.report.page"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _plot(plot: Chart | Strips | Bars) -> Markup:
    template = _environment().get_template("plot.svg.j2")
    return Markup(template.render(drawing=draw(plot)))


def _sort_key(text: str) -> str:
    """Return what a cell is sorted by: its number, or nothing."""
    match = _NUMBER.match(text)
    return match[0] if match is not None else ""
