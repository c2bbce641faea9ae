"""What `grid` takes beyond the trainings themselves: the same cells, by the grid and by `train` one after another.

    python benchmarks/grid.py [--config examples/grids/demo.yaml] [--rounds 1] [flags of grid, such as --seeds 1]

Both train every cell in a process of its own on one device, from the same cache of features, in turns; the order
changes from round to round. The scores must be the same. The last line is one JSON object; an overhead is a ratio of
medians minus one. That of the processors' time is the one to read on a machine that others use, too.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Seconds(NamedTuple):
    """What a command took: by the clock, and of the processors, its processes' processes included."""

    wall_s: float
    cpu_s: float


PROGRAM = [sys.executable, str(ROOT / "run_mrc.py")]


def _seconds(*command: str) -> Seconds:
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*PROGRAM, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"exit status {done.returncode}: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(time.perf_counter() - began, cpu)


def _scores(directory: Path) -> dict[str, object]:
    records = sorted(directory.glob("*/seed_*/record.json"))
    return {path.relative_to(directory).as_posix(): json.loads(path.read_text())["scores"] for path in records}


def _trained(cells: Path, directory: Path) -> Seconds:
    """Train the cells of a grid one after another, each in a run directory of its own in `directory`."""
    took = []
    for cell in json.loads(cells.read_text(encoding="utf-8"))["cells"]:
        arguments = [text for text in cell["arguments"] if not text.startswith("--output_dir")]
        took.append(_seconds(*arguments, "--output_dir", str(directory / cell["run"])))
    return Seconds(*map(sum, zip(*took, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", default=str(ROOT / "examples" / "grids" / "demo.yaml"))
    parser.add_argument("--rounds", type=int, default=1)
    ours, more = parser.parse_known_args()
    took: dict[str, list[Seconds]] = {"grid": [], "trains": []}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)

        def grid(output: str) -> Seconds:
            return _seconds("grid", "--config", ours.config, *more, "--output_dir", str(place / output))

        grid("warm")  # fills the cache of features, and says what the cells are
        for number in range(ours.rounds):
            for side in ("grid", "trains") if number % 2 == 0 else ("trains", "grid"):
                output = f"{side}-{number}"
                cells = place / "warm" / "cells.json"
                took[side].append(grid(output) if side == "grid" else _trained(cells, place / output))
            scores = [_scores(place / f"{side}-{number}") for side in took]
            if scores[0] != scores[1] or not scores[0]:
                raise SystemExit("the grid's cells have other scores than those that were trained alone")
        n_cells = len(scores[0])
    result: dict[str, object] = {"benchmark": "grid", "cells": n_cells, "rounds": ours.rounds}
    for of in Seconds._fields:
        values = {side: [getattr(seconds, of) for seconds in of_side] for side, of_side in took.items()}
        result |= {f"{side}_{of}": [round(value, 1) for value in of_side] for side, of_side in values.items()}
        result[f"overhead_{of}"] = round(median(values["grid"]) / median(values["trains"]) - 1, 4)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
