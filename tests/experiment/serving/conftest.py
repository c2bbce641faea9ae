"""A reader with random weights, and a server for it, shared by the tests of serving."""

from __future__ import annotations

import pytest

from experiment import Reader
from tests.support.http import running
from tests.support.served import write_model


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    with Reader.load(write_model(tmp_path_factory.mktemp("served") / "model"), device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def server(reader):
    with running(reader) as started:
        yield started
