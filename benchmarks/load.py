"""Building and loading a checkpoint of RoBERTa-large's size, against transformers' AutoModel.from_pretrained.

Random float32 weights (1.3 GB, safetensors), every load in a fresh process and from a warm page cache, interleaved,
median of 7. Time runs from the checkpoint's path to the output for 16 tokens, without imports: both sides map the
file, so that a load alone reads little of it, and that time is printed too. Memory is the peak of resident memory
above that after the imports. The last line is one JSON object.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

ROUNDS = 7
N_TOKENS = 16
TIME_BAR, MEMORY_BAR = 1.0, 1.15
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 21128,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def write_checkpoint(directory: Path) -> int:
    """Write config.json and random weights; returns the weights' bytes."""
    import numpy as np

    from pretrained_configs.formats.reader import write_safetensors
    from pretrained_configs.parameters import parameter_shapes
    from pretrained_configs.published import read_config, saved_format

    (directory / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    config = read_config(directory)
    random = np.random.default_rng(0)
    shapes = parameter_shapes(config, pooled=True)
    ours = {name: random.standard_normal(shape, np.float32) * 0.02 for name, shape in shapes.items()}
    write_safetensors(directory / "model.safetensors", saved_format(config).to_theirs(ours))
    return sum(array.nbytes for array in ours.values())


def ours() -> tuple[Callable[[str], Any], Callable[[Any], object]]:
    import numpy as np

    from experiment.backend import load_backend
    from pretrained_configs.checkpoint import read_checkpoint

    backend = load_backend("pytorch")

    def load(path: str) -> Any:
        return backend.load_model(read_checkpoint(path), None, device="cpu", fresh_head=False)[0]

    ids, ones, zeros = np.ones((3, 1, N_TOKENS), np.int64) * [[[100]], [[1]], [[0]]]
    return load, lambda model: backend.hidden_states(model, ids, ones, zeros)


def theirs() -> tuple[Callable[[str], Any], Callable[[Any], object]]:
    import torch
    from transformers import AutoModel, BertModel

    # The module of a class is imported when the class is first asked for.
    assert BertModel is not None

    def compute(model: Any) -> object:
        with torch.no_grad():
            return model(input_ids=torch.full((1, N_TOKENS), 100), output_hidden_states=True)

    return AutoModel.from_pretrained, compute


def resident(field: str) -> int:
    """Return VmRSS (now) or VmHWM (its peak so far), in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def measure(side: str, path: str) -> None:
    """Load once, in this process, and print seconds and bytes."""
    load, compute = {"ours": ours, "theirs": theirs}[side]()
    before = resident("VmRSS")
    started = time.perf_counter()
    model = load(path)
    loaded = time.perf_counter()
    compute(model)
    seconds = {"load": loaded - started, "output": time.perf_counter() - started}
    print(json.dumps({**seconds, "bytes": resident("VmHWM") - before}))


def main() -> int:
    if len(sys.argv) == 3:
        measure(*sys.argv[1:])
        return 0
    with tempfile.TemporaryDirectory() as directory:
        n_bytes = write_checkpoint(Path(directory))
        results: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
        for _ in range(ROUNDS):
            for side, runs in results.items():
                command = [sys.executable, __file__, side, directory]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                runs.append(json.loads(output.splitlines()[-1]))
    median = {
        side: {name: statistics.median(run[name] for run in runs) for name in ("load", "output")}
        for side, runs in results.items()
    }
    peak = {side: max(run["bytes"] for run in runs) / n_bytes for side, runs in results.items()}
    for side, seconds in median.items():
        print(
            f"{side:<7}load {seconds['load']:5.2f} s   to the first output {seconds['output']:5.2f} s   "
            f"peak {peak[side]:.3f} x the {n_bytes / 2**30:.2f} GiB of weights"
        )
    ratio = median["ours"]["output"] / median["theirs"]["output"]
    ok = ratio <= TIME_BAR and peak["ours"] <= MEMORY_BAR
    figures = {"time_ratio": round(ratio, 2), "peak": round(peak["ours"], 3), "bars": [TIME_BAR, MEMORY_BAR]}
    print(json.dumps({"name": "load", **figures, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
