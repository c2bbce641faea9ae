"""Fixtures shared by all tests: where the real data and the golden outputs are."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

# Where these are set, rich takes every file for a terminal, and what the tests read is full of colours and bars.
# They go before any test, so that no process that a test starts has them either.
for _variable in ("FORCE_COLOR", "TTY_COMPATIBLE"):
    os.environ.pop(_variable, None)


# Garbage collections walk all that is alive. What has been imported stays for good, and takes 0.6 s of a full one, as
# there is one before every seed that is trained: it is taken out of their sight.
_n_spared = 0


def pytest_collection() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_runtest_setup() -> None:
    global _n_spared
    if len(sys.modules) > _n_spared + 100:
        gc.collect()
        gc.freeze()
        _n_spared = len(sys.modules)


def _directory(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    path = Path(value)
    assert path.is_dir(), f"{variable}={value} is no directory"
    return path


@pytest.fixture(scope="session")
def data_dir() -> Path:
    return _directory("MRC_DATA_DIR")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    return _directory("MRC_GOLDEN_DIR")
