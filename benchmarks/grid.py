"""What `grid` takes beyond the trainings themselves: the same cells, by the grid and by `train` one after another.

    python benchmarks/grid.py [--config examples/grids/demo.yaml] [--rounds 1] [flags of grid, such as --seeds 1]

Both train every cell in a process of its own on one device, from the same cache of features, in turns; the order
changes from round to round. The scores must be the same. The last line is one JSON object; `overhead` is the ratio of
the medians minus one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [sys.executable, str(ROOT / "run_mrc.py")]


def _seconds(*command: str) -> float:
    began = time.perf_counter()
    done = subprocess.run([*PROGRAM, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"exit status {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - began


def _scores(directory: Path) -> dict[str, object]:
    records = sorted(directory.glob("*/seed_*/record.json"))
    return {path.relative_to(directory).as_posix(): json.loads(path.read_text())["scores"] for path in records}


def _trained(cells: Path, directory: Path) -> float:
    """Train the cells of a grid one after another, each in a run directory of its own in `directory`."""
    took = 0.0
    for cell in json.loads(cells.read_text(encoding="utf-8"))["cells"]:
        arguments = [text for text in cell["arguments"] if not text.startswith("--output_dir")]
        took += _seconds(*arguments, "--output_dir", str(directory / cell["run"]))
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", default=str(ROOT / "examples" / "grids" / "demo.yaml"))
    parser.add_argument("--rounds", type=int, default=1)
    ours, more = parser.parse_known_args()
    took: dict[str, list[float]] = {"grid": [], "trains": []}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)

        def grid(output: str) -> float:
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
    middle = {side: median(seconds) for side, seconds in took.items()}
    result = {
        "benchmark": "grid",
        "cells": n_cells,
        "rounds": ours.rounds,
        "grid_s": [round(seconds, 1) for seconds in took["grid"]],
        "trains_s": [round(seconds, 1) for seconds in took["trains"]],
        "overhead": round(middle["grid"] / middle["trains"] - 1, 4),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
