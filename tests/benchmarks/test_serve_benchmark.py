"""The benchmark of the server runs, and its figures are those that it judges by."""

from __future__ import annotations

import importlib
import json

import pytest

for _package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_package)


@pytest.mark.soak
def test_serve_compares_the_rate_with_that_offline(monkeypatch, capsys):
    benchmark = importlib.import_module("benchmarks.serve")
    monkeypatch.setattr(benchmark, "ROUNDS", 2)
    monkeypatch.setattr("sys.argv", ["serve", "--layers", "1", "--hidden", "64", "--requests", "64"])
    status = benchmark.main()
    *lines, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert [line.split()[0] for line in lines] == ["offline", "served", "a", "memory"]
    assert result["n_different"] == 0 and 0 < result["p50_ms"] <= result["p95_ms"] and result["ratio"] > 0
    good = result["ratio"] >= result["bars"][0] and result["growth"] <= result["bars"][1]
    assert result["ok"] == good and status == (0 if good else 1)
