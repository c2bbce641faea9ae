"""Compares the memory that `plan` predicts for a training step with what the step takes.

    python benchmarks/memory.py [--device cpu]

Each case is a process of its own that takes two steps. On a GPU the measure is torch.cuda.max_memory_allocated. On a
CPU it is the growth of the process's largest resident size over what it was after a step of a tiny model, which has
loaded the kernels; blocks are returned to the system as soon as they are free (MALLOC_MMAP_THRESHOLD_), so that the C
library's reuse of them is no part of it. Last, on a CPU, a whole `train` is compared with the row that `plan` prints
for this machine: there all that the process takes counts. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiment.estimate.memory import training_memory  # noqa: E402
from preprocess.base.spec import TrainerSpec  # noqa: E402
from preprocess.types import Batch, HeadSpec  # noqa: E402
from pretrained_configs.config import ModelConfig  # noqa: E402
from tasks.problems.span import SpanProblem  # noqa: E402

BASE = {
    "vocab_size": 21128,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
LARGE = {**BASE, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
ALBERT = {**BASE, "model_type": "albert", "embedding_size": 128, "embedding_projection": "output"}
TINY = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 256,
}
Case = dict[str, Any]


def _case(name: str, config: dict[str, Any], batch: int, length: int, precision: str, n_recomputed: int = 0) -> Case:
    return {
        "name": name,
        "config": config,
        "batch": batch,
        "length": length,
        "precision": precision,
        "gradient_checkpointing": n_recomputed,
    }


CASES = {
    "cpu": [
        _case("base", BASE, 8, 512, "bf16"),
        _case("base", BASE, 8, 512, "bf16", 12),
        _case("base", BASE, 4, 512, "fp32"),
        _case("ALBERT base", ALBERT, 8, 512, "bf16"),
    ],
    "cuda": [
        _case("base", BASE, 32, 512, "bf16"),
        _case("base", BASE, 32, 512, "fp16"),
        _case("base", BASE, 32, 512, "bf16", 12),
        _case("base", BASE, 16, 384, "fp32"),
        _case("large", LARGE, 16, 512, "bf16"),
        _case("large", LARGE, 32, 512, "bf16", 12),
        _case("ALBERT base", ALBERT, 32, 512, "bf16"),
    ],
}
#: The model of the whole process; its windows are PROCESS_BATCH of PROCESS_LENGTH tokens.
PROCESS = {**BASE, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 1024}
PROCESS_BATCH, PROCESS_LENGTH = 32, 256
#: How far a prediction may be off: of the tensors of a step, and of a whole process.
BAR, PROCESS_BAR = 0.10, 0.15
#: Below this the C library takes memory from its heap, which does not shrink.
_MMAP_THRESHOLD = 1 << 16


def random_batch(batch: int, length: int, vocab_size: int, n_kinds: int = 0) -> Batch:
    """Return windows of random ids, without padding."""
    random = np.random.RandomState(0)
    ones = np.ones((batch, length), np.int32)
    start = random.randint(0, length - 1, batch).astype(np.int32)
    ids = random.randint(1, vocab_size, (batch, length)).astype(np.int32)
    index = np.arange(batch, dtype=np.int32)
    inputs = {"input_ids": ids, "attention_mask": ones, "token_type_ids": ones}
    targets = {"start": start, "end": start + 1}
    if n_kinds:
        targets["kind"] = random.randint(-1, n_kinds, batch).astype(np.int32)
    return Batch(index, index, inputs, targets)


def build_trainer(
    config: ModelConfig, head: HeadSpec, device: str, precision: str, n_recomputed: int, **methods: Any
) -> Any:
    """Build a model and its trainer."""
    from pytorch_modeling import Trainer, build_model

    return Trainer(
        build_model(config, head, device=device),
        TrainerSpec(
            n_steps=4,
            learning_rate=1e-5,
            warmup_ratio=0.0,
            weight_decay=0.01,
            max_grad_norm=1.0,
            adam_beta1=0.9,
            adam_beta2=0.999,
            adam_epsilon=1e-8,
            precision=precision,
            gradient_checkpointing=n_recomputed,
            **methods,
        ),
    )


def take_steps(case: Case, device: str, n: int = 2) -> None:
    """Build the model of a case and take optimizer steps."""
    config = ModelConfig(**case["config"])
    trainer = build_trainer(config, SpanProblem.head, device, case["precision"], case["gradient_checkpointing"])
    for _ in range(n):
        trainer.step([random_batch(case["batch"], case["length"], config.vocab_size)])


def peak_bytes(case: Case, device: str) -> int:
    """Return the most memory that the steps of a case take; for a CPU to be called once in a process."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        take_steps(case, "cuda:0")
        return torch.cuda.max_memory_allocated()
    take_steps({**case, "config": TINY, "batch": 1, "length": 32, "gradient_checkpointing": 0}, "cpu")
    before = _resident()
    take_steps(case, "cpu")
    return _resident() - before


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def predicted_bytes(case: Case) -> int:
    shape = {name: case[name] for name in ("batch", "length", "precision", "gradient_checkpointing")}
    return training_memory(ModelConfig(**case["config"]), SpanProblem.head, **shape).total


def _measured(case: Case, device: str) -> int:
    """Measure a case in a process of its own."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(_MMAP_THRESHOLD), "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, "--device", device, "--case", json.dumps(case)]
    return int(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def whole_process(directory: Path) -> dict[str, Any]:
    """Train with `run_mrc.py`, and return the memory that `plan` expects of the process and what it took."""
    vocabulary = (ROOT / "examples" / "corpus" / "vocab.txt").read_text(encoding="utf-8")
    (directory / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    pieces = vocabulary.split()
    (directory / "config.json").write_text(json.dumps({**PROCESS, "vocab_size": len(pieces)}), encoding="utf-8")
    characters = [piece for piece in pieces if len(piece) == 1 and piece > "\u4e00"]
    random = np.random.RandomState(0)
    contexts = ["".join(random.choice(characters, 600)) for _ in range(40)]
    paragraphs = [
        {
            "context": text,
            "qas": [{"id": str(i), "question": "何", "answers": [{"text": text[9], "answer_start": 9}]}],
        }
        for i, text in enumerate(contexts)
    ]
    data = directory / "data.json"
    data.write_text(json.dumps({"version": "", "data": [{"title": "", "paragraphs": paragraphs}]}), encoding="utf-8")
    options = [
        "--task", "cmrc2018", "--config_name", str(directory), "--train_file", str(data), "--seeds", "1",
        "--validation_file", str(data), "--per_device_train_batch_size", str(PROCESS_BATCH), "--max_seq_length",
        str(PROCESS_LENGTH), "--num_train_epochs", "2", "--feature_cache_dir", str(directory / "cache"),
    ]  # fmt: skip
    for command in (
        ["plan", *options, "--json", str(directory / "plan.json")],
        ["train", *options, "--output_dir", str(directory / "run"), "--device", "cpu"],
    ):
        subprocess.run([sys.executable, str(ROOT / "run_mrc.py"), *command], check=True, stdout=subprocess.DEVNULL)
    row = json.loads((directory / "plan.json").read_text())["devices"][-1]
    record = json.loads((directory / "run" / "seed_1" / "record.json").read_text())
    ratio = round(row["needed_bytes"] / record["peak_bytes"], 3)
    return {"predicted": row["needed_bytes"], "measured": record["peak_bytes"], "ratio": ratio}


def main() -> int:
    import torch

    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(peak_bytes(arguments.case, arguments.device))
        return 0
    parts = []
    for case in CASES[arguments.device]:
        measured, predicted = _measured(case, arguments.device), predicted_bytes(case)
        facts = {name: value for name, value in case.items() if name != "config"}
        ratio = round(predicted / measured, 3)
        parts.append({**facts, "predicted": predicted, "measured": measured, "ratio": ratio})
        recomputed = f", {case['gradient_checkpointing']} layers recomputed" if case["gradient_checkpointing"] else ""
        print(
            f"{case['name']} {case['batch']} x {case['length']} {case['precision']}{recomputed}: "
            f"predicted {predicted / 1e9:.3f} GB, measured {measured / 1e9:.3f} GB, ratio {ratio:.3f}",
            flush=True,
        )
    worst = max((part["ratio"] for part in parts), key=lambda ratio: abs(ratio - 1))
    ok = abs(worst - 1) <= BAR
    result = {"name": "memory", "device": arguments.device, "ratio": worst, "bar": BAR, "ok": ok, "parts": parts}
    if arguments.device == "cpu":
        with tempfile.TemporaryDirectory() as directory:
            process = whole_process(Path(directory))
        print(
            f"a whole `train`, 6 x 256, {PROCESS_BATCH} x {PROCESS_LENGTH} fp32: predicted "
            f"{process['predicted'] / 1e9:.3f} GB, measured {process['measured'] / 1e9:.3f} GB, "
            f"ratio {process['ratio']:.3f}"
        )
        ok &= abs(process["ratio"] - 1) <= PROCESS_BAR
        result |= {"ok": ok, "process": {**process, "bar": PROCESS_BAR}}
    print(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
