"""The command that says how much the cached features take, and deletes them."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from experiment.cli import main
from preprocess.cache import cached_encode
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer
from preprocess.types import Example
from tasks.problems.span import SpanProblem


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    """A cache of two entries, one of them not used for ten days."""
    directory = tmp_path / "features"
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, "甲"])
    for days, context in ((10, "甲"), (0, "甲" * 9000)):
        before = set(directory.iterdir()) if directory.exists() else set()
        cached_encode(directory, SpanProblem(), [Example("q", "甲", context)], [None], tokenizer)
        (entry,) = set(directory.iterdir()) - before
        for path in (*entry.iterdir(), entry):
            os.utime(path, (time.time() - days * 86400,) * 2)
    return directory


def call(capsys: Any, directory: Path, *flags: str) -> str:
    assert main(["cache", "--feature_cache_dir", str(directory), *flags]) == 0
    return capsys.readouterr().out


def test_entries_are_listed_with_size_and_last_use(capsys: Any, cache_dir: Path) -> None:
    head, *lines = call(capsys, cache_dir).splitlines()
    assert re.fullmatch(rf"{cache_dir}: 2 entries \(0\.\d MB\)", head)
    assert lines[0].endswith("used 0.0 days ago") and lines[1].endswith("used 10.0 days ago")
    assert {line.split()[0] for line in lines} == set(os.listdir(cache_dir))


def test_pruning_by_age_by_size_and_altogether(capsys: Any, cache_dir: Path, tmp_path: Path) -> None:
    assert "deleted 1 entry (0.0 MB); 1 entry (" in call(capsys, cache_dir, "--prune", "--older_than", "9")
    assert "deleted 0 entries (0.0 MB); 1 entry (" in call(capsys, cache_dir, "--prune", "--max_size", "1")
    assert "; 0 entries (0.0 MB) left" in call(capsys, cache_dir, "--prune")
    assert os.listdir(cache_dir) == []
    assert "none: 0 entries (0.0 MB)" in call(capsys, tmp_path / "none")


def test_what_teachers_said_is_listed_and_pruned_beside_features(capsys: Any, cache_dir: Path) -> None:
    kept, others = cache_dir / f"teacher-{'0a' * 16}.npz", [cache_dir / "mine.npz", cache_dir / "teacher-0a.npz"]
    for path in (kept, *others):
        path.write_bytes(bytes(5 * 10**6))
    os.utime(kept, (time.time() - 20 * 86400,) * 2)
    head, *lines = call(capsys, cache_dir).splitlines()
    assert "3 entries (5." in head
    assert lines[-1].split()[0] == kept.name and lines[-1].endswith("5.0 MB  used 20.0 days ago")
    assert "deleted 1 entry (5.0 MB); 2 entries" in call(capsys, cache_dir, "--prune", "--older_than", "19")
    assert not kept.exists()
    call(capsys, cache_dir, "--prune")
    assert sorted(cache_dir.iterdir()) == sorted(others)


def test_limits_without_prune_are_refused(capsys: Any, cache_dir: Path) -> None:
    assert main(["cache", "--feature_cache_dir", str(cache_dir), "--older_than", "1"]) == 2
    assert capsys.readouterr().err == "error: --older_than: says what --prune deletes; give --prune as well\n"
    assert main(["cache", "--prune", "--older_than", "-1"]) == 2
    assert "--older_than -1.0: must be at least 0" in capsys.readouterr().err
    assert len(os.listdir(cache_dir)) == 2
