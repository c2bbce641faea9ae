"""What a comparison is printed and written as."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from experiment.io.tables import aligned
from experiment.options.flags import ParityOptions
from experiment.options.recipe import OptimizerRecipe
from experiment.parity.answers import Answers
from experiment.parity.compare import StageRow
from experiment.parity.observe import FRAMEWORKS
from experiment.training.record import versions

_NUMBERS = ("max abs", "max relative", "tolerance")
_HEADER = ("stage", "worst parameter", *_NUMBERS, "")


def print_rows(console: Console, rows: Sequence[StageRow], precision: str) -> None:
    """Print the table, with the first stage that differs standing out."""
    console.print(f"{' and '.join(FRAMEWORKS)}, {precision}")
    cells = []
    for stage in rows:
        numbers = (f"{number:.2e}" for number in (stage.max_abs, stage.relative, stage.tolerance))
        cells.append([stage.stage, stage.worst, *numbers, "ok" if stage.ok else "FAIL"])
    header, *lines = aligned(_HEADER, cells, right=_NUMBERS)
    console.print(header)
    first = next((stage for stage in rows if not stage.ok), None)
    for stage, line in zip(rows, lines, strict=True):
        console.print(line, style="bold red" if stage is first else None)


def verdict(rows: Sequence[StageRow], precision: str) -> str:
    """Return the line that says whether, and where first, the frameworks differ."""
    different = [stage for stage in rows if not stage.ok]
    if not different:
        return f"no difference beyond the tolerances of {precision} at any of {len(rows)} stages"
    first = different[0]
    at = f" ({first.worst})" if first.worst else ""
    return (
        f"first difference: {first.stage}{at}, {first.max_abs:.2e} where {first.tolerance:.2e} is allowed; "
        f"{len(different)} of {len(rows)} stages differ"
    )


def report(
    options: ParityOptions, recipe: OptimizerRecipe, rows: Sequence[StageRow], answers: Answers | None
) -> dict[str, object]:
    """Return all of a comparison as JSON-able values, in full precision."""
    first = next((stage.stage for stage in rows if not stage.ok), None)
    return {
        "model": options.model_name_or_path or options.config_name,
        "task": options.task,
        "precision": recipe.precision,
        "steps": options.steps,
        "seed": options.seed,
        "device": options.device,
        "versions": versions(),
        "ok": first is None,
        "first_difference": first,
        "scores": answers.scores if answers is not None else {},
        "rows": [{name: _finite(value) for name, value in asdict(stage).items()} for stage in rows],
    }


def _finite(value: object) -> object:
    """JSON has no NaN and no infinity: they become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
