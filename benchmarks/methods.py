"""What each training method costs: its step against the plain one, taken in turn in one process.

    python benchmarks/methods.py [--framework tensorflow] [METHOD …]

A BERT of base width with 2 layers, dropout 0.1, AdamW, 8 random windows of 256 tokens a step, float32. Two trainers
take steps in turn, in an order that changes from round to round; the ratio is that of the medians. The last
line is one JSON object; the status is 1 where a ratio is above its bar.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from preprocess.base.spec import TrainerSpec  # noqa: E402
from preprocess.types import Batch, HeadSpec, Output  # noqa: E402
from pretrained_configs.config import ModelConfig  # noqa: E402

LENGTH, BATCH, ROUNDS = 256, 8, 15
CONFIG = ModelConfig(21128, 768, 2, 12, 3072)
METHODS: dict[str, dict[str, Any]] = {
    "fgm": {"fgm_epsilon": 1.0},
    "pgd": {"pgd_epsilon": 1.0},
    "ema": {"ema_decay": 0.999},
    "rdrop": {"rdrop_alpha": 1.0},
    "llrd": {"layerwise_lr_decay": 0.95},
    "label_smoothing": {"label_smoothing": 0.1},
    "freeze": {"freeze_layers": 1},
    "lora": {"lora_rank": 8},
}
#: Method -> how many times as long as a plain step its step may take.
BARS = {"fgm": 2.1, "ema": 1.05, "rdrop": 2.1, "llrd": 1.02}
HEAD = HeadSpec(tuple(Output(name, reads="token", size=1, loss="position") for name in ("first", "last")))


def batch() -> Batch:
    random = np.random.RandomState(0)
    ids = random.randint(1, CONFIG.vocab_size, (BATCH, LENGTH)).astype(np.int32)
    rows = np.arange(BATCH, dtype=np.int32)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return Batch(rows, rows, inputs, dict.fromkeys(("first", "last"), rows))


def trainer_of(backend: Any, methods: dict[str, Any]) -> Any:
    spec = TrainerSpec(
        n_steps=1000, learning_rate=3e-5, warmup_ratio=0.1, weight_decay=0.01, max_grad_norm=1.0, adam_beta1=0.9,
        adam_beta2=0.999, adam_epsilon=1e-8, precision="fp32", **methods,
    )  # fmt: skip
    backend.set_seed(1)
    return backend.Trainer(backend.build_model(CONFIG, HEAD, device="cpu", seed=1), spec)


def seconds(trainer: Any, taken: Batch) -> float:
    started = time.perf_counter()
    trainer.step([taken])
    trainer.metrics()  # waits for the device
    return time.perf_counter() - started


def ratio(backend: Any, methods: dict[str, Any]) -> float:
    """Return how many times as long as a plain step one with the methods takes."""
    trainers = [trainer_of(backend, {}), trainer_of(backend, methods)]
    taken = batch()
    took: tuple[list[float], list[float]] = ([], [])
    for trainer in trainers * 2:  # what is traced and allocated first is not counted
        seconds(trainer, taken)
    for i in range(ROUNDS):
        for side in (0, 1) if i % 2 else (1, 0):
            took[side].append(seconds(trainers[side], taken))
    return statistics.median(took[1]) / statistics.median(took[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--framework", default="pytorch", choices=("pytorch", "tensorflow"))
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=", ".join(METHODS))
    arguments = parser.parse_args()
    backend = import_module({"pytorch": "pytorch_modeling", "tensorflow": "tf_modeling"}[arguments.framework])
    ratios = {}
    for name in arguments.methods or METHODS:
        ratios[name] = ratio(backend, METHODS[name])
        bar = f"   (bar {BARS[name]})" if name in BARS else ""
        print(f"{name:<16}{ratios[name]:6.3f} x a plain step{bar}", flush=True)
    ok = all(ratios[name] <= bar for name, bar in BARS.items() if name in ratios)
    told = {name: round(value, 3) for name, value in ratios.items()}
    print(json.dumps({"name": "methods", "framework": arguments.framework, "ratios": told, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
