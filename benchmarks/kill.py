"""Kills a run of two seeds on real data 20 times with SIGKILL, and compares what is left with a quiet run.

    MRC_DATA_DIR=… python benchmarks/kill.py [--framework tensorflow] [--kills 20] [flags of train, such as --bf16]
    MRC_DATA_DIR=… python benchmarks/kill.py --tasks cmrc2018,drcd,cjrc --ema_decay 0.9

Without --tasks it learns CMRC2018; several are learned together. The moments are random: the run is left alone for
between 0 and 1.5 times a 21st of what it takes, counted from its first line, then killed and started again by the
same command, and after the last time left to end. Weights, predictions, scores and Records (apart from times) must be
the same to the last bit, and a kill must have come between. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: A Record's fields that no two runs share.
TIMES = ("wall_s", "speed", "peak_bytes")
#: Task -> what it is trained and evaluated on, in MRC_DATA_DIR; how well it is learned plays no part.
FILES = {
    "cmrc2018": ("cmrc2018/cmrc2018_train.json", "cmrc2018/cmrc2018_dev.json"),
    "drcd": ("drcd/DRCD_dev.json", "drcd/DRCD_dev.json"),
    "cjrc": ("cjrc/dev_ground_truth.json", "cjrc/dev_ground_truth.json"),
}
CONFIG = {
    "model_type": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 256,
}


def digest(run: Path) -> dict[str, str]:
    """Return SHA-256 of all that a run leaves and another run of the same options must leave too, by file.

    Those of several tasks have directories of their own in that of the run.
    """
    digests = {}
    for path in sorted(run.glob("**/seed_*/**/*")):
        if path.is_dir() or "tensorboard" in path.parts:
            continue
        content = path.read_bytes()
        if path.name == "record.json":
            record = {name: value for name, value in json.loads(content).items() if name not in TIMES}
            record["config"].pop("output_dir")
            content = json.dumps(record, sort_keys=True).encode()
        digests[path.relative_to(run).as_posix()] = hashlib.sha256(content).hexdigest()
    return digests


def _start(command: list[str], errors: Path) -> subprocess.Popen[bytes]:
    """Start the program, and return when it has said something."""
    with errors.open("wb") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file)
    assert process.stdout is not None
    process.stdout.read(1)
    return process


def _finish(process: subprocess.Popen[bytes], errors: Path) -> None:
    process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"exit status {process.returncode}: {errors.read_text(errors='replace')[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--framework", default="pytorch", choices=("pytorch", "tensorflow"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--tasks", default="cmrc2018", help=f"one of {', '.join(FILES)}, or several with commas")
    ours, more = parser.parse_known_args()
    tasks = ours.tasks.split(",")
    if "MRC_DATA_DIR" not in os.environ:
        raise SystemExit("set MRC_DATA_DIR to the directory that holds vocab/ and the tasks' data")
    data = Path(os.environ["MRC_DATA_DIR"])
    with tempfile.TemporaryDirectory() as name:
        model, errors = Path(name, "model"), Path(name, "stderr")
        model.mkdir()
        vocabulary = (data / "vocab" / "bert-base-chinese-vocab.txt").read_text(encoding="utf-8")
        (model / "vocab.txt").write_text(vocabulary, encoding="utf-8")
        config = {**CONFIG, "vocab_size": len(vocabulary.splitlines())}
        (model / "config.json").write_text(json.dumps(config), encoding="utf-8")

        train_files, dev_files = ([f"{task}={data / FILES[task][split]}" for task in tasks] for split in (0, 1))

        def command(output: str) -> list[str]:
            return [
                sys.executable, str(ROOT / "run_mrc.py"), "train", "--task", ours.tasks, "--config_name", str(model),
                "--framework", ours.framework, "--train_file", *train_files,
                "--validation_file", *dev_files, "--max_train_samples", "1200", "--max_eval_samples", "200",
                "--max_seq_length", "256", "--per_device_train_batch_size", "16", "--num_train_epochs", "2",
                "--learning_rate", "1e-3", "--seeds", "1", "2", "--save_steps", "5",
                "--feature_cache_dir", str(Path(name, "cache")), "--output_dir", str(Path(name, output)), *more,
            ]  # fmt: skip

        for output in ("warm_up", "quiet"):  # the first one fills the cache of features
            process = _start(command(output), errors)
            started = time.perf_counter()
            _finish(process, errors)
            quiet_s = time.perf_counter() - started
        moments = random.Random(0)
        n_kills = n_finished = 0
        while n_kills < ours.kills and not n_finished:
            process = _start(command("killed"), errors)
            try:
                process.wait(moments.uniform(0, 1.5 * quiet_s / (ours.kills + 1)))
                n_finished += 1
            except subprocess.TimeoutExpired:
                process.kill()
                n_kills += 1
            process.communicate()
        if not n_finished:
            _finish(_start(command("killed"), errors), errors)
        log = Path(name, "killed", "run.log").read_text(encoding="utf-8")
        quiet, killed = digest(Path(name, "quiet")), digest(Path(name, "killed"))
        hashes = {
            name: value for name, value in killed.items() if name.endswith(("model.safetensors", "record.json"))
        }
        result = {
            "benchmark": "kill",
            "framework": ours.framework,
            "tasks": tasks,
            "options": more,
            "kills": n_kills,
            "resumed": log.count("goes on after step"),
            "started_anew": log.count("started anew"),
            "quiet_s": round(quiet_s, 1),
            "n_files": len(killed),
            "identical": quiet == killed,
            "sha256": hashes,
        }
        print(json.dumps(result))
        raise SystemExit(0 if quiet == killed and n_kills else 1)


if __name__ == "__main__":
    main()
