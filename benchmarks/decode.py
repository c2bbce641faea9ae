"""Logits -> answers + score on whole development sets, against the usual recipes in plain Python (`_recipe.py`).

CMRC2018: n-best span search and the official metric. CJRC: the same with YES, NO and unknown answers by null score
and kind logits, and both its metrics. The logits are random, with peaks near the answers that give scores like a
trained model's.
Needs MRC_DATA_DIR with cmrc2018/cmrc2018_dev.json, cjrc/dev_ground_truth.json and vocab/bert-base-chinese-vocab.txt.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _recipe import (  # noqa: E402
    OPTIONS,
    Words,
    decode_kinds,
    decode_spans,
    lay_out,
    nltk_words,
    score_cjrc,
    score_cmrc,
    timed,
)

from preprocess.batch import eval_batches  # noqa: E402
from preprocess.tokenizers.base import Tokenizer, load_tokenizer  # noqa: E402
from preprocess.types import NO_TARGET, FeatureSet, Outputs  # noqa: E402
from tasks.core.discovery import get_task  # noqa: E402
from tasks.core.nbest import nbest_json  # noqa: E402
from tasks.core.prediction import Score
from tasks.core.task import Task  # noqa: E402

ROUNDS = 5
EVAL_BATCH = 64
WIDTH = 512
FILES = {"cmrc2018": "cmrc2018/cmrc2018_dev.json", "cjrc": "cjrc/dev_ground_truth.json"}
# The least ratios that we promise. CMRC2018's recipe sorts with numpy, CJRC's with Python.
BARS = {
    "cmrc2018": {"n-best files": 5.0, "1-best during training": 30.0},
    "cjrc": {"n-best files": 10.0, "1-best during training": 10.0},
}
Array = NDArray[np.float32]


class Arrays(NamedTuple):
    """Logits of all windows; those of kinds are None for span-only tasks."""

    start: Array
    end: Array
    kind: Array | None


def plausible_logits(features: FeatureSet, n_kinds: int) -> Arrays:
    """Noise everywhere, and a peak with likely neighbours at the answer of the windows that hold one.

    Windows whose answer is no span have their peak at position 0 and at the logit of their kind.
    """
    random = np.random.RandomState(0)
    both = []
    null = np.flatnonzero(features.targets["kind"] != NO_TARGET) if n_kinds else np.zeros(0, np.int64)
    for name in ("start", "end"):
        target = features.targets[name]
        logits = random.normal(-4.0, 1.5, (len(features), WIDTH)).astype(np.float32)
        held = np.flatnonzero(target)
        for distance, height in ((0, 9.0), (1, 4.0), (-1, 4.0), (4, 5.0), (-6, 5.0), (12, 4.0), (-15, 4.0)):
            position = np.clip(target[held] + distance, 1, features.lengths[held] - 1)
            logits[held, position] += height + random.normal(0, 2.0, len(held))
        logits[null, 0] += 7.0 + random.normal(0, 2.0, len(null))
        both.append(logits)
    if not n_kinds:
        return Arrays(both[0], both[1], None)
    kind = random.normal(0, 1, (len(features), n_kinds)).astype(np.float32)
    kind[null, features.targets["kind"][null]] += 3.0
    return Arrays(both[0], both[1], kind)


def batches_of(features: FeatureSet, logits: Arrays) -> list[Outputs]:
    """Logits as a model returns them: batches of like length."""
    batches = []
    for rows in eval_batches(features, EVAL_BATCH):
        width = int(-(-features.lengths[rows].max() // 32) * 32)
        values = {"start": logits.start[rows, :width].copy(), "end": logits.end[rows, :width].copy()}
        batches.append(Outputs(rows, values if logits.kind is None else {**values, "kind": logits.kind[rows]}))
    return batches


def measure(task: Task, file: Path, tokenizer: Tokenizer, words: Words) -> list[dict[str, Any]]:
    examples, _ = task.read(file)
    targets = [next(iter(task.targets(example)), None) for example in examples]
    features = task.problem.encode(examples, targets, tokenizer, max_seq_length=WIDTH, doc_stride=128)
    logits = plausible_logits(features, task.problem.head.rows.get("kind", 0))
    batches = batches_of(features, logits)
    # What stands at padding must not compete in the peer either.
    padding = np.arange(WIDTH) >= features.lengths[:, None]
    logits.start[padding] = logits.end[padding] = -1e4
    windows = lay_out(examples, features, tokenizer.tokens)
    scorer = task.scorer(examples)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def peer() -> dict[str, float]:
            if logits.kind is not None:
                answers = decode_kinds(examples, windows, (logits.start, logits.end, logits.kind), folder)
                return score_cjrc(examples, answers, words)
            return score_cmrc(examples, decode_spans(examples, windows, logits.start, logits.end, folder), words)

        def with_files() -> Score:
            predictions = task.problem.decode(examples, features, batches, OPTIONS)
            answers = {id: prediction.text for id, prediction in predictions.items()}
            (folder / "ours.json").write_bytes(json.dumps(answers, ensure_ascii=False).encode())
            (folder / "ours_nbest.json").write_bytes(nbest_json(predictions).encode())
            return task.score(examples, answers)

        def one_best() -> Score:
            return scorer(task.problem.best_answers(examples, features, batches, OPTIONS))

        seconds: dict[str, list[float]] = {"peer": [], **{part: [] for part in BARS[task.name]}}
        for _ in range(ROUNDS):
            theirs = timed(seconds["peer"], peer)
            ours = timed(seconds["n-best files"], with_files)
            fast = timed(seconds["1-best during training"], one_best)
    print(f"{task.name}: {len(examples)} questions, {len(features)} windows")
    print(f"  the same in both: {', '.join(f'{key} {value:.4f}' for key, value in theirs.items())}")
    assert fast == ours, "the 1-best path and the n-best path disagree"
    assert all(abs(ours.values[key] - value) < 1e-6 for key, value in theirs.items()), ours.values
    return ratios(task.name, seconds)


def ratios(name: str, seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    median = {part: statistics.median(times) for part, times in seconds.items()}
    parts: list[dict[str, Any]] = []
    for part, bar in BARS[name].items():
        ratio = median["peer"] / median[part]
        print(f"  {part:24} {median[part]:.3f} s, peer {median['peer']:.3f} s: {ratio:.1f} x (bar {bar:g} x)")
        parts.append({"name": f"{name} {part}", "ratio": round(ratio, 2), "bar": bar, "ok": ratio >= bar})
    return parts


def main() -> int:
    directory = os.environ.get("MRC_DATA_DIR")
    if not directory:
        print("MRC_DATA_DIR is not set; point it at the folder that holds cmrc2018/, cjrc/ and vocab/.")
        return 2
    tokenizer = load_tokenizer(Path(directory, "vocab", "bert-base-chinese-vocab.txt"))
    words = nltk_words()
    print(f"median CPU seconds of {ROUNDS} interleaved rounds")
    parts = [
        part
        for name, file in FILES.items()
        for part in measure(get_task(name), Path(directory, file), tokenizer, words)
    ]
    worst = min(parts, key=lambda part: part["ratio"] / part["bar"])
    ok = all(part["ok"] for part in parts)
    print(json.dumps({"name": "decode", "ratio": worst["ratio"], "bar": worst["bar"], "ok": ok, "parts": parts}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
