"""A real encoder on real CMRC2018: this toolkit against transformers' `run_qa.py` recipe, from the same weights.

    python benchmarks/pretrained.py --model DIRECTORY --output_dir DIRECTORY [OPTIONS]

Both sides train on the same first questions with the same hyper-parameters and answer the whole development set, in
equally many windows, one seed after the other, ours and the recipe in turn. The predictions of both are scored by
the official metric. The difference of the scores is given with two 95 % intervals: over contexts and seeds, as the
leaderboard has it, and over the contexts alone, as if there were no other seeds than these. By the first, ours must
not be significantly worse; the second is narrower and passes chance between seeds for a difference. A time is that
of the whole processes, interpreter and imports included; the recipe's second process finds the first one's windows
in the cache of `datasets`, as ours does in its own cache. Both keep freed memory (glibc's settings), without which
a step of the recipe was found to take twice as long.

What is finished is kept in the output directory, so that the same command goes on after an interruption. Needs
MRC_DATA_DIR and a directory with pretrained weights that transformers reads, too. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._sides import run_ours, run_recipe, write_slice  # noqa: E402
from experiment.report.clusters import contexts_of  # noqa: E402
from experiment.report.statistics import Sample, compare  # noqa: E402
from tasks.core.discovery import get_task  # noqa: E402

BAR = 2.0
METRICS = ("f1", "em")
#: Large tensors come from memory that was used before, not as new pages, which the system would have to fill with 0.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TOP_PAD_": str(2**29),
    "MALLOC_TRIM_THRESHOLD_": str(10**11),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--n_train", type=int, default=5000, help="questions to train on")
    parser.add_argument("--n_dev", type=int, default=100_000, help="questions to answer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max_seq_length", type=int, default=512)
    parser.add_argument("--overlap", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    return parser.parse_args()


def ours(options: argparse.Namespace, files: dict[str, Path], seed: int, output: Path) -> dict[str, Any]:
    _, wall_s, cpu_s = run_ours(
        "--model_name_or_path", str(options.model),
        "--train_file", str(files["train"]), "--validation_file", str(files["dev"]),
        "--max_seq_length", str(options.max_seq_length), "--doc_overlap", str(options.overlap),
        "--max_answer_length", "50", *(["--bf16"] if options.precision == "bf16" else []),
        "--per_device_train_batch_size", str(options.batch), "--per_device_eval_batch_size", str(options.batch),
        "--num_train_epochs", str(options.epochs), "--eval_epochs", str(options.epochs),
        "--learning_rate", str(options.learning_rate), "--warmup_ratio", "0.1", "--weight_decay", "0.01",
        "--seeds", str(seed), "--feature_cache_dir", str(options.output_dir / "ours_cache"),
        "--output_dir", str(output), "--overwrite_output_dir",
    )  # fmt: skip
    record = json.loads((output / f"seed_{seed}" / "record.json").read_text())
    predictions = json.loads((output / f"seed_{seed}" / "predictions_dev.json").read_text())
    report = json.loads((output / "data_report.json").read_text())
    windows = {split: report[split]["encoding"]["n_windows"] for split in ("train", "dev")}
    loss = record["evaluations"][-1]["loss"]
    return {"wall_s": wall_s, "cpu_s": cpu_s, "windows": windows, "loss": loss, "predictions": predictions}


def recipe(options: argparse.Namespace, files: dict[str, Path], seed: int, output: Path) -> dict[str, Any]:
    record, wall_s, cpu_s = run_recipe(
        {
            "model": str(options.model),
            "pretrained": True,
            "train_file": str(files["train_flat"]),
            "validation_file": str(files["dev_flat"]),
            "output": str(output),
            "seed": seed,
            "batch": options.batch,
            "epochs": options.epochs,
            "learning_rate": options.learning_rate,
            "warmup_ratio": 0.1,
            "weight_decay": 0.01,
            "precision": options.precision,
            "windows": {"max_seq_length": options.max_seq_length, "overlap": options.overlap},
        },
        options.output_dir / "recipe_cache",
    )
    predictions = json.loads((output / "peer.json").read_text())
    windows, loss = record["windows"], record["loss"]
    return {"wall_s": wall_s, "cpu_s": cpu_s, "windows": windows, "loss": loss, "predictions": predictions}


Side = Callable[[argparse.Namespace, dict[str, Path], int, Path], dict[str, Any]]
SIDES: dict[str, Side] = {"ours": ours, "recipe": recipe}


def finished(name: str, options: argparse.Namespace, files: dict[str, Path], seed: int) -> dict[str, Any]:
    """Return what a side came to with a seed; computed now unless it is there already."""
    output = options.output_dir / f"{name}_{seed}"
    result = output / "result.json"
    if not result.is_file():
        values = SIDES[name](options, files, seed, output)
        result.write_text(json.dumps(values))
    values = json.loads(result.read_text())
    assert isinstance(values, dict)
    return values


def main() -> int:
    options = arguments()
    if "MRC_DATA_DIR" not in os.environ:
        print("set MRC_DATA_DIR to the directory that holds cmrc2018/", file=sys.stderr)
        return 2
    os.environ.update(KEEP_MEMORY)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, n in (("train", options.n_train), ("dev", options.n_dev)):
        files[split], files[f"{split}_flat"] = (options.output_dir / f"{split}{s}.json" for s in ("", "_flat"))
        source = Path(os.environ["MRC_DATA_DIR"]) / "cmrc2018" / f"cmrc2018_{split}.json"
        write_slice(source, n, files[split], files[f"{split}_flat"])
    task = get_task("cmrc2018")
    examples, _ = task.read(files["dev"])
    scorer = task.scorer(examples)
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    scores: dict[str, dict[str, list[list[float]]]] = {name: {metric: [] for metric in METRICS} for name in SIDES}
    windows: dict[str, Any] = {}
    for seed in options.seeds:
        for name in SIDES:
            result = finished(name, options, files, seed)
            score = scorer(result["predictions"])
            seconds[name].append(result["wall_s"])
            windows[name] = result["windows"]
            for metric in METRICS:
                scores[name][metric].append([values[metric] for values in score.per_example.values()])
            shown = " ".join(f"{metric} {score.values[metric]:.3f}" for metric in METRICS)
            print(f"{name:<7} seed {seed}: {shown}, loss {result['loss']:.3f}, {result['wall_s']:.0f} s", flush=True)
        if windows["ours"] != windows["recipe"]:
            print(f"the two sides cut different windows: {windows}", file=sys.stderr)
            return 2
    contexts = contexts_of([example.id for example in examples])
    intervals: dict[str, list[float]] = {}
    for metric in METRICS:
        values = [100 * np.array(scores[name][metric]).T for name in SIDES]
        first, second = (Sample(value, contexts) for value in values)
        first_mean, second_mean = (Sample(value.mean(axis=1, keepdims=True), contexts) for value in values)
        whole, of_contexts = compare([(first, second), (first_mean, second_mean)])
        print(
            f"{metric}: ours - recipe {whole.difference:+.3f} (p {whole.p:.3f}), 95 % interval "
            f"{whole.interval.low:+.3f} to {whole.interval.high:+.3f}; of these seeds alone "
            f"{of_contexts.interval.low:+.3f} to {of_contexts.interval.high:+.3f}"
        )
        intervals[metric] = [whole.interval.low, whole.interval.high]
    ratio = statistics.median(seconds["recipe"]) / statistics.median(seconds["ours"])
    ok = ratio >= BAR and all(high >= 0 for _, high in intervals.values())
    rounded = {metric: [round(end, 3) for end in ends] for metric, ends in intervals.items()}
    print(json.dumps({"name": "pretrained", "ratio": round(ratio, 2), "bar": BAR, "intervals": rounded, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
