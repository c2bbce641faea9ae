"""Answering with exported models, against the model itself: onnxruntime and ExportedProgram, on one CPU thread.

A BERT of 4 layers of 256 with random weights (`--layers`, `--hidden` for others) computes batches of 8 windows of 64
to 384 tokens, the same ones on all sides, interleaved, median CPU time of 5 rounds. The first batch of each side is
not counted. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiment.backend import Predictor, load_backend  # noqa: E402
from experiment.export.forms import FORMS, predictor  # noqa: E402
from preprocess.types import Batch  # noqa: E402
from pretrained_configs.config import ModelConfig  # noqa: E402
from tasks.core.discovery import get_task  # noqa: E402

ROUNDS = 5
BATCH = 8
LENGTHS = (64, 128, 256, 384)
VOCABULARY = 21128
#: What is exported may be so much slower than the model itself.
BAR = 0.8


def batches() -> Iterator[Batch]:
    """Yield a batch of each length; its windows hold from half of it to all of it."""
    random = np.random.RandomState(0)
    for length in LENGTHS:
        position = np.arange(length)
        mask = (position < random.randint(length // 2, length + 1, (BATCH, 1))).astype(np.int32)
        inputs = {
            "input_ids": (random.randint(1, VOCABULARY, (BATCH, length)) * mask).astype(np.int32),
            "attention_mask": mask,
            "token_type_ids": ((position > 20) * mask).astype(np.int32),
        }
        index = np.arange(BATCH, dtype=np.int32)
        yield Batch(index, index, inputs, {})


def sides(directory: Path, layers: int, hidden: int) -> dict[str, Predictor]:
    """Return what answers: the model, and its forms, each with one thread."""
    torch, runtime = import_module("torch"), import_module("onnxruntime")
    torch.set_num_threads(1)
    backend = load_backend("pytorch")
    config = ModelConfig(VOCABULARY, hidden, layers, hidden // 64, 4 * hidden)
    model = backend.build_model(config, get_task("cmrc2018").problem.head, device="cpu", seed=0)
    for form in ("onnx", "exported_program"):
        FORMS[form].write(model, directory, [])
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(directory / FORMS["onnx"].entry, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {
        "model": lambda given: backend.predict(model, given, precision="fp32"),
        "onnx": predictor(
            FORMS["onnx"], lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))
        ),
        "exported_program": predictor(FORMS["exported_program"], FORMS["exported_program"].load(directory)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Answering with exported models, against the model itself")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        known, given = sides(Path(directory), arguments.layers, arguments.hidden), list(batches())
        for predict in known.values():
            list(predict(given[:1]))
        for _ in range(ROUNDS):
            for name, predict in known.items():
                began = time.process_time()
                list(predict(given))
                seconds.setdefault(name, []).append(time.process_time() - began)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    for name, value in median.items():
        print(f"{name:<17}{BATCH * len(given) / value:7.1f} windows/s   {median['model'] / value:.2f} x the model")
    ratios = {name: round(median["model"] / value, 2) for name, value in median.items() if name != "model"}
    ok = all(ratio >= BAR for ratio in ratios.values())
    print(json.dumps({"name": "export", "ratios": ratios, "bar": BAR, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
