"""The benchmark of inference runs, and its figures are those that it judges by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

for _package in ("onnxscript", "onnxruntime", "openvino", "transformers"):
    pytest.importorskip(_package)
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.soak
@pytest.mark.realdata
@pytest.mark.skipif("MRC_DATA_DIR" not in os.environ, reason="needs MRC_DATA_DIR")
def test_inference_compares_each_side_with_its_peer():
    sizes = ["--layers", "1", "--hidden", "64", "--questions", "4", "--single", "2"]
    process = subprocess.run(
        [sys.executable, "benchmarks/inference.py", *sizes], cwd=ROOT, capture_output=True, text=True
    )
    *lines, last = process.stdout.splitlines()
    result = json.loads(last)
    sides = [line.split()[0] for line in lines if "questions/s" in line]
    assert sides == ["recipe", "pytorch", "onnx", "openvino", "int8"] == list(result["latency"])
    assert all(0 < each["p50_ms"] <= each["p95_ms"] for each in result["latency"].values())
    good = all(result["ratios"][side] >= bar for side, bar in result["bars"].items())
    assert result["ok"] == good and process.returncode == (0 if good else 1)
