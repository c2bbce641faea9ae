"""A tiny corpus, and a way to search on it in this process."""

from __future__ import annotations

import json

import pytest

from experiment.cli import main
from experiment.options.arguments import split, understand
from experiment.options.searching import SearchOptions
from tests.experiment.conftest import train_flags, write_corpus


@pytest.fixture(scope="session")
def search_corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("search-corpus"))


@pytest.fixture
def command(search_corpus, tmp_path):
    """Return the arguments of a search, with more flags."""

    def arguments(*more, output="search"):
        _, *flags = train_flags(search_corpus, tmp_path / output)
        return ["search", *flags, "--report_to", "none", *more]

    return arguments


@pytest.fixture
def search(command, tmp_path):
    """Search; returns the directory."""

    def call(*more, output="search", status=0):
        assert main(command(*more, output=output)) == status
        return tmp_path / output

    return call


@pytest.fixture
def understood(command):
    """Return the options of a search."""

    def call(*more):
        return understand(split(command(*more)[1:], SearchOptions), SearchOptions)

    return call


@pytest.fixture
def record():
    """Return the Record of a trial."""

    def read(directory, number, seed=42):
        return json.loads((directory / f"trial_{number:03}" / f"seed_{seed}" / "record.json").read_text())

    return read
