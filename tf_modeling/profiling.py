"""A trace of what is computed, kernel by kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf


@contextmanager
def profiler(directory: Path) -> Iterator[None]:
    """Write what the block computes under `plugins/profile`, which TensorBoard's profiler shows.

    Args:
        directory: is made if it does not exist.
    """
    with tf.profiler.experimental.Profile(os.fsencode(directory)):
        yield
