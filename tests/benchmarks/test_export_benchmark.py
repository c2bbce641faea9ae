"""The benchmark of exported models runs, and its figures are those that it judges by."""

from __future__ import annotations

import importlib
import json

import pytest
import torch

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.mark.soak
def test_export_compares_each_form_with_the_model(monkeypatch, capsys):
    benchmark = importlib.import_module("benchmarks.export")
    for name, value in {"ROUNDS": 1, "LENGTHS": (32,), "BATCH": 2, "VOCABULARY": 100}.items():
        monkeypatch.setattr(benchmark, name, value)
    monkeypatch.setattr("sys.argv", ["export", "--layers", "1", "--hidden", "64"])
    n_threads = torch.get_num_threads()
    try:
        status = benchmark.main()
    finally:
        torch.set_num_threads(n_threads)
    *lines, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert (
        [line.split()[0] for line in lines] == ["model", *result["ratios"]] == ["model", "onnx", "exported_program"]
    )
    assert all(ratio > 0 for ratio in result["ratios"].values())
    assert result["ok"] == (min(result["ratios"].values()) >= result["bar"]) and status == (0 if result["ok"] else 1)
