"""A trace of what is computed, kernel by kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


@contextmanager
def profiler(directory: Path) -> Iterator[None]:
    """Write what the block computes to `trace.json.gz`, which chrome://tracing and ui.perfetto.dev show.

    Args:
        directory: is made if it does not exist.
    """
    directory.mkdir(parents=True, exist_ok=True)
    gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities, record_shapes=True) as recorded:
        yield
        if gpu:
            torch.cuda.synchronize()
    unfinished = directory / ".trace.json.gz"
    recorded.export_chrome_trace(str(unfinished))
    os.replace(unfinished, directory / "trace.json.gz")
