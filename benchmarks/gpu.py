"""Fine-tuning on one CUDA GPU, against transformers' Trainer.

BERT of base (12 x 768) and large (24 x 1024) size, windows of up to 384 and 512 tokens; bfloat16 autocast over
float32 weights and moments, dropout 0.1, clipping, AdamW. Windows are random ids, as long as those of CMRC2018. A
time runs from the windows' arrays to the updated weights, over a pass of some batches after one that is not counted;
the host waits for the device before and after the pass only.

* ours: this toolkit, every window padded to the full length. grouped: the same windows, like lengths together, padded
  to the next multiple of 32, which is this toolkit's default.
* trainer: transformers' Trainer with bf16=True on the windows padded to the full length, all else at its defaults.

Each tries every batch size once and keeps its fastest. Then they take turns, each time with a new model, alone on the
device; medians count, and the allocator's peaks. Last, ours and trainer look for the largest batch that trains with
16 GB for the allocator; the CUDA context comes on top.

MFU is the rate of `training_flops` of real tokens over the device's peak for dense bfloat16 products; null where
`experiment.estimate.hardware` does not know that. The bar on the ratio is for the two defaults, grouped / trainer;
ours / trainer is printed too.

`gpu.py base-384 large-512 …` measures those parts alone; all four are meant to take less than nine minutes on an
H100. --torch_compile compiles our layers and leaves out the 16 GB, where every batch size would be compiled. --tiny
--device cpu tries this program out. The last line is one JSON object; without a CUDA device it says so, and the
status is 0.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiment.estimate.hardware import peak_flops, training_flops  # noqa: E402
from preprocess.base.spec import TrainerSpec
from preprocess.batch import collate  # noqa: E402
from preprocess.template import BERT  # noqa: E402
from preprocess.types import Batch, FeatureSet  # noqa: E402
from pretrained_configs.config import ModelConfig  # noqa: E402
from pytorch_modeling import Trainer, build_model  # noqa: E402
from tasks.problems.span import SpanProblem  # noqa: E402

VOCABULARY = 21128
CONFIGS = {
    "base": ModelConfig(VOCABULARY, 768, 12, 12, 3072),
    "large": ModelConfig(VOCABULARY, 1024, 24, 16, 4096),
    "tiny": ModelConfig(VOCABULARY, 32, 2, 2, 64),
}
BATCH_SIZES = {"base": (32, 64, 128), "large": (16, 32, 64), "tiny": (2, 4)}
PARTS = ("base-384", "base-512", "large-384", "large-512")
#: Deciles of the windows' lengths, in tokens: CMRC2018 train, doc_stride 128.
DECILES = {
    384: (176, 287, 315, 343, 374, 384, 384, 384, 384, 384, 384),
    512: (176, 320, 372, 407, 440, 476, 512, 512, 512, 512, 512),
    64: (20, 64),
}
N_BATCHES, ROUNDS = 8, 3
LEARNING_RATE = 3e-5
MEMORY_LIMIT, LARGEST_BATCH = 16_000_000_000, 128
#: Part -> windows/s of ours; the reference run's 16 IPUs, and a third of that for large.
SPEED_BARS = {"base-384": 1317.0, "large-384": 440.0}
MFU_BAR, TRAINER_BAR = 0.40, 2.0


def hardware(device: torch.device) -> str:
    """Return the device's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def windows(n: int, length: int) -> FeatureSet:
    """Make n windows of random ids whose lengths are evenly spread over the deciles, in a random order."""
    random = np.random.default_rng(0)
    deciles = DECILES[length]
    quantiles = np.interp((np.arange(n) + 0.5) / n, np.linspace(0, 1, len(deciles)), deciles)
    lengths = random.permutation(quantiles.round().astype(np.int64))
    none = np.zeros(n, np.int32)
    return FeatureSet(
        input_ids=random.integers(1, VOCABULARY, lengths.sum()).astype(np.uint16),
        row_splits=np.concatenate([[0], np.cumsum(lengths)]),
        example_index=np.arange(n, dtype=np.int32),
        option_index=none,
        context_index=none,
        doc_offset=np.full(n, 17, np.int32),
        doc_length=(lengths - 18).astype(np.int32),
        piece_start=none,
        max_context=np.zeros((n, 2), np.int32),
        piece_spans=np.zeros((0, 2), np.int32),
        piece_splits=np.zeros(1, np.int64),
        targets={},
        meta={"max_seq_length": length, "pad_id": 0, "template": BERT.as_json(), "losses": {}, "counts": {}},
    ).with_targets(
        SpanProblem.head,
        {"start": random.integers(17, lengths).astype(np.int32), "end": (lengths - 1).astype(np.int32)},
        {},
    )


@dataclass(frozen=True)
class Part:
    """What is measured at once: one size of model and one length of windows."""

    size: str
    length: int
    device: torch.device
    torch_compile: bool

    def __str__(self) -> str:
        """Return the part's name."""
        return f"{self.size}-{self.length}"

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass
class Pass:
    """What a side's counted pass took: seconds, and bytes of the allocator (0 on a CPU)."""

    seconds: float
    windows: int
    flops: float
    peak_bytes: int = 0
    reserved_bytes: int = 0


@cache
def our_model(size: str) -> Any:
    return build_model(CONFIGS[size], SpanProblem.head, device="cpu", seed=1)


@cache
def their_model(size: str) -> Any:
    from transformers import BertConfig, BertForQuestionAnswering

    config = asdict(CONFIGS[size])
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return BertForQuestionAnswering(BertConfig(**{name: config[name] for name in names}))


def needed_flops(part: Part, features: FeatureSet) -> float:
    return float(training_flops(CONFIGS[part.size], features.lengths.astype(np.int64)).sum())


def our_passes(part: Part, batch_size: int, grouped: bool = False, n_batches: int = N_BATCHES) -> Pass:
    """Take two passes with our Trainer."""
    model = copy.deepcopy(our_model(part.size)).to(part.device)
    compiled: dict[str, Any] = {"torch_compile": True} if part.torch_compile else {}
    trainer = Trainer(
        model,
        TrainerSpec(
            n_steps=1000,
            learning_rate=LEARNING_RATE,
            warmup_ratio=0.1,
            weight_decay=0.01,
            max_grad_norm=1.0,
            adam_beta1=0.9,
            adam_beta2=0.999,
            adam_epsilon=1e-8,
            precision="bf16",
            **compiled,
        ),
    )
    features = windows(n_batches * batch_size, part.length)
    rows = np.arange(len(features))
    if grouped:
        rows = rows[np.argsort(features.lengths, kind="stable")]
    for _ in range(2):
        part.synchronize()
        started = time.perf_counter()
        for chosen in rows.reshape(n_batches, batch_size):
            batch = collate(features, chosen, pad_to_multiple_of=32 if grouped else part.length)
            trainer.step([batch])
        part.synchronize()
        seconds = time.perf_counter() - started
    metrics = trainer.metrics()
    assert metrics["skipped_steps"] == 0 and np.isfinite(metrics["loss"]), metrics
    return Pass(seconds, len(features), needed_flops(part, features))


def grouped_passes(part: Part, batch_size: int) -> Pass:
    return our_passes(part, batch_size, grouped=True)


def inputs(batch: Batch) -> dict[str, torch.Tensor]:
    columns = {
        **{name: column[0] for name, column in batch.inputs.items()},
        **{f"{name}_positions": target[0] for name, target in batch.targets.items()},
    }
    return {name: torch.tensor(column, dtype=torch.int64) for name, column in columns.items()}


def their_passes(part: Part, batch_size: int, n_batches: int = N_BATCHES) -> Pass:
    """Take two passes with transformers' Trainer, whose loop has callbacks."""
    from transformers import PrinterCallback, TrainerCallback, TrainingArguments
    from transformers import Trainer as TheirTrainer

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % n_batches == 0:
                part.synchronize()
                times.append(time.perf_counter())

    features = windows(n_batches * batch_size, part.length)
    rows = [inputs(collate(features, [i], pad_to_multiple_of=part.length)) for i in range(len(features))]
    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            directory,
            per_device_train_batch_size=batch_size,
            learning_rate=LEARNING_RATE,
            bf16=True,
            use_cpu=part.device.type == "cpu",
            max_steps=2 * n_batches,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        model = copy.deepcopy(their_model(part.size))
        # Twice the windows, so that no second epoch starts in the counted pass.
        theirs = TheirTrainer(model, arguments, train_dataset=2 * rows, callbacks=[Clock()])
        theirs.remove_callback(PrinterCallback)
        theirs.train()
        theirs.accelerator.free_memory()
    first, last = times
    return Pass(last - first, len(features), needed_flops(part, features))


SIDES: dict[str, Callable[[Part, int], Pass]] = {
    "ours": our_passes,
    "grouped": grouped_passes,
    "trainer": their_passes,
}


def measure(part: Part, side: Callable[..., Pass], batch_size: int, **keywords: Any) -> Pass | None:
    """Let a side take its passes alone on the device; None if memory does not suffice."""
    on_gpu = part.device.type == "cuda"
    if on_gpu:
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(part.device)
    result = None
    with contextlib.suppress(torch.OutOfMemoryError):  # its traceback holds the model: collected after this
        result = side(part, batch_size, **keywords)
    if on_gpu:
        if result is not None:
            result.peak_bytes = torch.cuda.max_memory_allocated(part.device)
            result.reserved_bytes = torch.cuda.max_memory_reserved(part.device)
        gc.collect()
        torch.cuda.empty_cache()
    return result


def largest_batch(part: Part, side: Callable[..., Pass]) -> int | None:
    """Return the largest even batch size, up to LARGEST_BATCH, that trains within MEMORY_LIMIT; None on a CPU."""
    if part.device.type != "cuda":
        return None
    fraction = MEMORY_LIMIT / torch.cuda.get_device_properties(part.device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, fraction), part.device)
    fits, fails = 0, LARGEST_BATCH + 2
    while fails - fits > 2:
        middle = (fits + fails) // 4 * 2
        if measure(part, side, middle, n_batches=1) is None:
            fails = middle
        else:
            fits = middle
    torch.cuda.set_per_process_memory_fraction(1.0, part.device)
    return fits


def fastest(part: Part, side: Callable[..., Pass]) -> int:
    """Return the batch size of most windows per second."""
    tried = {size: measure(part, side, size) for size in BATCH_SIZES[part.size]}
    speeds = {size: done.windows / done.seconds for size, done in tried.items() if done is not None}
    if not speeds:
        raise SystemExit(f"{part}: not even a batch of {min(tried)} fits on the device")
    return max(speeds, key=lambda size: speeds[size])


def run(part: Part, n_rounds: int) -> dict[str, dict[str, Any]]:
    """Measure one part and print a line for each side; returns the line's values by side."""
    if part.torch_compile:
        torch.compiler.reset()  # what was compiled for the part before
    ours, theirs = fastest(part, our_passes), fastest(part, their_passes)
    batch_size = {"ours": ours, "grouped": ours, "trainer": theirs}
    passes: dict[str, list[Pass]] = {name: [] for name in SIDES}
    for _ in range(n_rounds):
        for name, side in SIDES.items():
            done = measure(part, side, batch_size[name])
            assert done is not None, f"{part}, {name}: a batch that fitted before does not fit any more"
            passes[name].append(done)
    peak, result = peak_flops(hardware(part.device), "bf16"), {}
    for name, taken in passes.items():
        seconds = statistics.median(done.seconds for done in taken)
        values: dict[str, Any] = {
            "batch_size": batch_size[name],
            "windows_per_s": round(taken[0].windows / seconds, 1),
            "mfu": round(taken[0].flops / seconds / peak, 4) if peak else None,
            "peak_gb": round(max(done.peak_bytes for done in taken) / 1e9, 2),
            "reserved_gb": round(max(done.reserved_bytes for done in taken) / 1e9, 2),
        }
        if name != "grouped" and not part.torch_compile:
            values["batch_in_16_gb"] = largest_batch(part, SIDES[name])
        print(f"{part!s:<10}{name:<8}", *(f"{key} {value}" for key, value in values.items()), sep="  ", flush=True)
        result[name] = values
    speeds = {name: values["windows_per_s"] for name, values in result.items()}
    print(f"{part!s:<10}ours / trainer {speeds['ours'] / speeds['trainer']:.2f} x")
    return result


def goals(results: dict[str, dict[str, dict[str, Any]]]) -> Iterator[tuple[str, float, float]]:
    """Yield what was measured and its bar, for every goal of the parts that were measured."""
    for name, sides in results.items():
        speeds, mfu = {side: values["windows_per_s"] for side, values in sides.items()}, sides["ours"]["mfu"]
        if name in SPEED_BARS:
            yield f"{name} windows/s", speeds["ours"], SPEED_BARS[name]
        if name.endswith("-512") and mfu is not None:
            yield f"{name} MFU", mfu, MFU_BAR
        if name in PARTS:
            yield f"{name} grouped / trainer", speeds["grouped"] / speeds["trainer"], TRAINER_BAR


def main() -> int:
    # Before the first look at the devices: Trainer spreads a batch over all of them.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    parser = argparse.ArgumentParser(description="Fine-tuning on one CUDA GPU, against transformers' Trainer.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is given")
    parser.add_argument("--torch_compile", action="store_true", help="compile our layers")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a trial of this program, without any bar")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"unknown part '{unknown[0]}'; there are {', '.join(PARTS)}")
    if arguments.device == "cpu" and not arguments.tiny:
        parser.error("--device cpu is for --tiny: a CPU would take hours")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"name": "gpu", "skipped": "no CUDA device"}))
        return 0
    device = torch.device("cuda:0" if arguments.device == "cuda" else "cpu")
    names, n_rounds = (("tiny-64",), 1) if arguments.tiny else (arguments.parts or PARTS, ROUNDS)
    results = {}
    for name in names:
        size, _, length = name.partition("-")
        results[name] = run(Part(size, int(length), device, arguments.torch_compile), n_rounds)
    bars = {name: {"value": round(value, 4), "bar": bar} for name, value, bar in goals(results)}
    for name, goal in bars.items():
        print(f"{name:<28}{goal['value']:9.2f}   (bar {goal['bar']:g})")
    ok = all(goal["value"] >= goal["bar"] for goal in bars.values())
    facts = {"device": hardware(device), "torch": torch.__version__, "torch_compile": arguments.torch_compile}
    print(json.dumps({"name": "gpu", **facts, "parts": results, "bars": bars, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
