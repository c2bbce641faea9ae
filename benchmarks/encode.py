"""Examples -> features, and reopened features -> batches, against transformers' run_qa.py recipe.

Needs MRC_DATA_DIR (CMRC2018 dev and the Chinese BERT vocabulary). Two claims, each measured interleaved in one
process, median of 5:

* encode: questions per second, cold (nothing cached), both with a tokenizer that is loaded already. The recipe is
  `datasets.map` with run_qa.py's validation function in one process. Its `stride` is the overlap of two windows, so
  ours runs with the same overlap (`doc_overlap`); that the windows are the same is checked before timing.
* reopen: open the stored features and draw 100 shuffled, padded batches of 32, against `load_from_disk`, shuffled
  indexing and padding with numpy.

The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from preprocess.base.errors import DataError
from preprocess.batch import collate, epoch_batches  # noqa: E402
from preprocess.cache import open_features, write_features  # noqa: E402
from preprocess.readers.mrc import read_examples  # noqa: E402
from preprocess.tokenizers.base import Tokenizer, load_tokenizer  # noqa: E402
from preprocess.types import Example, FeatureSet  # noqa: E402
from tasks.problems.span import SpanProblem  # noqa: E402

MAX_SEQ_LENGTH = 512
#: The overlap at which a question of average length (16 pieces) has a window every 128 pieces.
OVERLAP = MAX_SEQ_LENGTH - 16 - 3 - 128
#: Whole contexts of CMRC2018 dev are taken until there are this many questions, to stay under two minutes.
N_QUESTIONS = 1600
REPEATS = 5
BATCH_SIZE, N_BATCHES = 32, 100
ENCODE_BAR, REOPEN_BAR = 4.0, 8.0


def interleaved(ours: Callable[[], Any], peer: Callable[[], Any]) -> tuple[float, float]:
    """Return the median seconds of both, run in turn after one warm-up each."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(REPEATS + 1):
        for taken, function in zip(times, (ours, peer), strict=True):
            start = time.perf_counter()
            function()
            if repeat:
                taken.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def run_qa_features(dataset: Any, tokenizer: Any) -> Any:
    """Cut the questions of a `datasets.Dataset` into windows as run_qa.py does for validation."""

    def prepare(rows: dict[str, list[Any]]) -> dict[str, Any]:
        questions = [question.lstrip() for question in rows["question"]]
        encoded = tokenizer(
            questions,
            rows["context"],
            truncation="only_second",
            max_length=MAX_SEQ_LENGTH,
            stride=OVERLAP,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding="max_length",
        )
        sources = encoded.pop("overflow_to_sample_mapping")
        encoded["example_id"] = []
        for index, source in enumerate(sources):
            segments = encoded.sequence_ids(index)
            encoded["example_id"].append(rows["id"][source])
            encoded["offset_mapping"][index] = [
                offset if segment == 1 else None
                for offset, segment in zip(encoded["offset_mapping"][index], segments, strict=True)
            ]
        return encoded

    return dataset.map(prepare, batched=True, remove_columns=dataset.column_names)


def bench_encode(examples: list[Example], tokenizer: Tokenizer, directory: Path) -> dict[str, Any]:
    import datasets
    import transformers

    datasets.disable_caching()
    datasets.disable_progress_bars()
    tokenizer.save(directory)
    (directory / "config.json").write_text('{"model_type": "bert"}')
    peer_tokenizer = transformers.AutoTokenizer.from_pretrained(str(directory))
    assert peer_tokenizer.is_fast, "the peer must be the Rust tokenizer too"
    columns = {"id": [e.id for e in examples], "question": [e.question for e in examples]}
    dataset = datasets.Dataset.from_dict({**columns, "context": [e.context for e in examples]})
    targets = [next((answer for answer in example.answers if answer.located), None) for example in examples]

    def ours() -> FeatureSet:
        return SpanProblem().encode(examples, targets, tokenizer, max_seq_length=MAX_SEQ_LENGTH, doc_overlap=OVERLAP)

    def peer() -> Any:
        return run_qa_features(dataset, peer_tokenizer)

    features, rows = ours(), peer()
    same = [
        features.input_ids[start:end].tolist() == ids[: end - start] and not any(ids[end - start :])
        for start, end, ids in zip(features.row_splits, features.row_splits[1:], rows["input_ids"], strict=False)
    ]
    print(f"encode: {len(examples)} questions of CMRC2018 dev, {MAX_SEQ_LENGTH} tokens, overlap {OVERLAP}")
    print(f"  windows: ours {len(features)}, run_qa.py {len(rows)}, {sum(same)} with the same ids")
    assert len(features) == len(rows) and all(same), "the two must make the same windows"
    ours_s, peer_s = interleaved(ours, peer)
    print(f"  questions/s: ours {len(examples) / ours_s:.0f}, run_qa.py {len(examples) / peer_s:.0f}")
    ratio = peer_s / ours_s
    return {"name": "encode", "ratio": round(ratio, 2), "bar": ENCODE_BAR, "ok": ratio >= ENCODE_BAR}


def bench_reopen(examples: list[Example], tokenizer: Tokenizer, directory: Path) -> dict[str, Any]:
    import datasets

    features = SpanProblem().encode(examples, [None] * len(examples), tokenizer, max_seq_length=MAX_SEQ_LENGTH)
    write_features(directory / "ours", features)
    rows = [ids.tolist() for ids in np.split(features.input_ids, features.row_splits[1:-1])]
    segments = [
        [0] * doc + [1] * (len(ids) - doc) for ids, doc in zip(rows, features.doc_offset.tolist(), strict=True)
    ]
    columns = {"input_ids": rows, "attention_mask": [[1] * len(ids) for ids in rows], "token_type_ids": segments}
    datasets.Dataset.from_dict(columns).save_to_disk(str(directory / "peer"))

    def ours() -> int:
        opened = open_features(directory / "ours")
        batches = epoch_batches(opened, BATCH_SIZE, seed=1, epoch=0)[:N_BATCHES]
        return sum(int(collate(opened, batch).inputs["attention_mask"].sum()) for batch in batches)

    def peer() -> int:
        opened = datasets.load_from_disk(str(directory / "peer"))
        order = np.random.default_rng(1).permutation(len(opened))
        n_tokens = 0
        for start in range(0, N_BATCHES * BATCH_SIZE, BATCH_SIZE):
            batch = opened[order[start : start + BATCH_SIZE].tolist()]
            width = max(map(len, batch["input_ids"]))
            padded = {name: np.zeros((BATCH_SIZE, width), np.int32) for name in batch}
            for name, values in batch.items():
                for row, value in enumerate(values):
                    padded[name][row, : len(value)] = value
            n_tokens += int(padded["attention_mask"].sum())
        return n_tokens

    print(f"reopen: {len(features)} windows stored, {N_BATCHES} shuffled batches of {BATCH_SIZE}")
    ours_s, peer_s = interleaved(ours, peer)
    print(f"  seconds: ours {ours_s:.4f}, load_from_disk {peer_s:.4f}")
    ratio = peer_s / ours_s
    return {"name": "reopen", "ratio": round(ratio, 2), "bar": REOPEN_BAR, "ok": ratio >= REOPEN_BAR}


def main() -> int:
    data_dir = os.environ.get("MRC_DATA_DIR")
    if not data_dir:
        print("set MRC_DATA_DIR to the directory that holds cmrc2018/ and vocab/", file=sys.stderr)
        return 2
    try:
        examples, _ = read_examples(Path(data_dir) / "cmrc2018" / "cmrc2018_dev.json", offset_unit="utf16")
        tokenizer = load_tokenizer(Path(data_dir) / "vocab" / "bert-base-chinese-vocab.txt", do_lower_case=True)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    some = examples[:N_QUESTIONS]
    while len(some) < len(examples) and examples[len(some)].context == some[-1].context:
        some = examples[: len(some) + 1]
    with tempfile.TemporaryDirectory() as directory:
        parts = [
            bench_encode(some, tokenizer, Path(directory)),
            bench_reopen(examples, tokenizer, Path(directory)),
        ]
    worst = min(parts, key=lambda part: part["ratio"] / part["bar"])
    summary = {
        "name": "encode",
        "ratio": worst["ratio"],
        "bar": worst["bar"],
        "ok": all(part["ok"] for part in parts),
    }
    print(json.dumps({**summary, "parts": parts}))
    return 0 if summary["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
