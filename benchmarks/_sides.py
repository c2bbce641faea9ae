"""What the benchmarks share that measure `run_mrc.py train` against the recipe of transformers' `run_qa.py`."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.discovery import get_task

ROOT = Path(__file__).resolve().parents[1]


def write_slice(source: Path, n_questions: int, published: Path, flat: Path) -> None:
    """Write the first articles that hold so many questions, as published, and flat as `run_qa.py` reads them."""
    document = json.loads(source.read_text(encoding="utf-8"))
    n, articles = 0, []
    for article in document["data"]:
        if n >= n_questions:
            break
        articles.append(article)
        n += sum(len(paragraph["qas"]) for paragraph in article["paragraphs"])
    published.write_text(json.dumps({**document, "data": articles}), encoding="utf-8")
    examples, _ = get_task("cmrc2018").read(published)
    rows = [
        {
            "id": example.id,
            "question": example.question,
            "context": example.context,
            "answers": {
                "text": [answer.text for answer in example.answers],
                "answer_start": [answer.char_start for answer in example.answers],
            },
        }
        for example in examples
    ]
    flat.write_text(json.dumps({"data": rows}), encoding="utf-8")


def run(command: list[str], **environment: str) -> tuple[str, float, float]:
    """Run a program; returns what it printed, and the seconds of the clock and of the processors.

    Its progress bars and errors, which go to standard error, are seen as they come.
    """
    started, used = time.perf_counter(), processor_seconds()
    process = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"{Path(command[1]).name}: exit status {process.returncode}, for the reason above")
    return process.stdout, seconds, processor_seconds() - used


def processor_seconds() -> float:
    """Return what all processes that this one has started, and that have ended, have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_ours(*options: str) -> tuple[str, float, float]:
    """Run `run_mrc.py train --task cmrc2018`; returns what `run` does."""
    return run([sys.executable, str(ROOT / "run_mrc.py"), "train", "--task", "cmrc2018", *options])


def run_recipe(options: Mapping[str, Any], cache: Path) -> tuple[dict[str, Any], float, float]:
    """Run one seed of the recipe; returns what it reports, and the seconds of the clock and of the processors."""
    printed, wall_s, cpu_s = run(
        [sys.executable, str(ROOT / "benchmarks" / "_qa_recipe.py"), json.dumps(options)],
        HF_DATASETS_CACHE=str(cache),
        HF_HUB_OFFLINE="1",
    )
    return json.loads(printed.splitlines()[-1]), wall_s, cpu_s
