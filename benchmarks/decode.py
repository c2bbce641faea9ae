"""Logits -> answers + official score on the whole CMRC2018 dev set, against the usual recipe in plain Python.

The peer is our own writing of what transformers' `utils_qa.postprocess_qa_predictions` describes (sort the logits
of each window, loop over all pairs of the 20 best, sort, softmax, write both JSON files), scored by a plain Python
metric that works as the official script does: every answer is segmented anew, character by character with a regular
expression, and the longest common substring is found by filling a table. The logits are random, with
peaks near the answers that give scores like a trained model's.
Needs MRC_DATA_DIR with cmrc2018/cmrc2018_dev.json and vocab/bert-base-chinese-vocab.txt.
"""

from __future__ import annotations

import collections
import gc
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from preprocess.batch import eval_batches  # noqa: E402
from preprocess.tokenizers import load_tokenizer  # noqa: E402
from preprocess.types import Example, FeatureSet, Logits  # noqa: E402
from preprocess.windows import encode  # noqa: E402
from tasks.core.discovery import get_task  # noqa: E402
from tasks.core.nbest import nbest_json  # noqa: E402
from tasks.core.task import DecodeOptions, Score  # noqa: E402
from tasks.metrics.segment import PUNCTUATION  # noqa: E402

LISTED = list(PUNCTUATION)
ROUNDS = 5
EVAL_BATCH = 64
OPTIONS = DecodeOptions(n_best_size=20, max_answer_length=50)
T = TypeVar("T")
BARS = {"n-best files": 5.0, "1-best during training": 30.0}


def plausible_logits(features: FeatureSet, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Noise everywhere, and a peak with likely neighbours at the answer of the windows that hold one."""
    random = np.random.RandomState(0)
    both = []
    for target in (features.start_position, features.end_position):
        logits = random.normal(-4.0, 1.5, (len(features), width)).astype(np.float32)
        held = np.flatnonzero(target)
        for distance, height in ((0, 9.0), (1, 4.0), (-1, 4.0), (4, 5.0), (-6, 5.0), (12, 4.0), (-15, 4.0)):
            position = np.clip(target[held] + distance, 1, features.lengths[held] - 1)
            logits[held, position] += height + random.normal(0, 2.0, len(held))
        both.append(logits)
    return both[0], both[1]


Window = dict[str, Any]


def peer_windows(examples: Sequence[Example], features: FeatureSet) -> dict[str, list[Window]]:
    """Lay the features out as the recipe holds them: lists of character offsets, None outside the context."""
    windows = collections.defaultdict(list)
    for index in range(len(features)):
        example = features.example_index[index]
        first = features.piece_splits[features.context_index[example]] + features.piece_start[index]
        offset, length = features.doc_offset[index], features.doc_length[index]
        spans = [tuple(span) for span in features.piece_spans[first : first + length].tolist()]
        low, high = (features.max_context[index] + offset).tolist()
        windows[examples[example].id].append(
            {
                "index": index,
                "offsets": [None] * int(offset) + spans + [None],
                "max_context": {str(p): low <= p < high for p in range(offset, offset + length)},
            }
        )
    return windows


def peer_decode(
    examples: Sequence[Example],
    windows: dict[str, list[Window]],
    starts: NDArray[np.float32],
    ends: NDArray[np.float32],
    folder: Path,
) -> dict[str, str]:
    predictions, nbest_lists = {}, {}
    for example in examples:
        found = []
        for window in windows[example.id]:
            start_logits, end_logits = starts[window["index"]], ends[window["index"]]
            offsets = window["offsets"]
            best_starts = np.argsort(start_logits)[-1 : -OPTIONS.n_best_size - 1 : -1].tolist()
            best_ends = np.argsort(end_logits)[-1 : -OPTIONS.n_best_size - 1 : -1].tolist()
            for start in best_starts:
                for end in best_ends:
                    if start >= len(offsets) or end >= len(offsets) or offsets[start] is None or offsets[end] is None:
                        continue
                    if end < start or end - start + 1 > OPTIONS.max_answer_length:
                        continue
                    if not window["max_context"].get(str(start), False):
                        continue
                    found.append(
                        {
                            "offsets": (offsets[start][0], offsets[end][1]),
                            "score": start_logits[start] + end_logits[end],
                            "start_logit": start_logits[start],
                            "end_logit": end_logits[end],
                        }
                    )
        nbest = sorted(found, key=lambda entry: entry["score"], reverse=True)[: OPTIONS.n_best_size]
        for entry in nbest:
            low, high = entry.pop("offsets")
            entry["text"] = example.context[low:high]
        if not nbest:
            nbest.append({"text": "", "start_logit": 0.0, "end_logit": 0.0, "score": 0.0})
        scores = np.array([entry.pop("score") for entry in nbest])
        exponential = np.exp(scores - np.max(scores))
        for entry, probability in zip(nbest, exponential / exponential.sum(), strict=True):
            entry["probability"] = probability
        predictions[example.id] = nbest[0]["text"]
        nbest_lists[example.id] = [
            {key: float(value) if key != "text" else value for key, value in entry.items()} for entry in nbest
        ]
    (folder / "peer.json").write_text(json.dumps(predictions, indent=4) + "\n")
    (folder / "peer_nbest.json").write_text(json.dumps(nbest_lists, indent=4) + "\n")
    return predictions


def peer_segment(text: str, words: Callable[[str], list[str]]) -> list[str]:
    tokens, run = [], ""
    for character in text.lower().strip():
        if character in LISTED:
            continue
        if re.search("[\u4e00-\u9fa5]", character):
            tokens += [*(words(run) if run else []), character]
            run = ""
        else:
            run += character
    return tokens + (words(run) if run else [])


def peer_common(a: list[str], b: list[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    best = 0
    for i in range(len(a)):
        for j in range(len(b)):
            if a[i] == b[j]:
                table[i + 1][j + 1] = table[i][j] + 1
                best = max(best, table[i + 1][j + 1])
    return best


def peer_score(
    examples: Sequence[Example], predictions: dict[str, str], words: Callable[[str], list[str]]
) -> tuple[float, float]:
    exact = total = 0.0
    for example in examples:
        prediction = predictions[example.id]
        scores, equal = [], 0
        for answer in example.answers:
            gold, found = peer_segment(answer.text, words), peer_segment(prediction, words)
            common = peer_common(gold, found)
            precision, recall = (common / len(found), common / len(gold)) if common else (0.0, 0.0)
            scores.append(2 * precision * recall / (precision + recall) if common else 0.0)
            bare = ["".join(c for c in text.lower().strip() if c not in LISTED) for text in (answer.text, prediction)]
            equal = max(equal, int(bare[0] == bare[1]))
        exact += equal
        total += max(scores)
    return 100 * exact / len(examples), 100 * total / len(examples)


def nltk_words() -> Callable[[str], list[str]]:
    """Sentences, then words, like `word_tokenize`; on this data the missing English model changes no score."""
    from nltk.tokenize.destructive import NLTKWordTokenizer
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    sentences, words = PunktSentenceTokenizer(), NLTKWordTokenizer()
    return lambda run: [word for sentence in sentences.tokenize(run) for word in words.tokenize(sentence)]


def main() -> int:
    directory = os.environ.get("MRC_DATA_DIR")
    if not directory:
        print("MRC_DATA_DIR is not set; point it at the folder that holds cmrc2018/ and vocab/.")
        return 2
    task = get_task("cmrc2018")
    examples, _ = task.read(Path(directory, "cmrc2018", "cmrc2018_dev.json"))
    tokenizer = load_tokenizer(Path(directory, "vocab", "bert-base-chinese-vocab.txt"))
    targets = [next(iter(task.targets(example)), None) for example in examples]
    features = encode(examples, targets, tokenizer, max_seq_length=512, doc_stride=128)
    starts, ends = plausible_logits(features, 512)
    batches = []
    for rows in eval_batches(features, EVAL_BATCH):
        width = int(-(-features.lengths[rows].max() // 32) * 32)
        batches.append(Logits(rows, starts[rows, :width].copy(), ends[rows, :width].copy()))
    # What stands at padding must not compete in the peer either.
    padding = np.arange(512) >= features.lengths[:, None]
    starts[padding] = ends[padding] = -1e4
    windows = peer_windows(examples, features)
    words = nltk_words()
    scorer = task.scorer(examples)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def peer() -> tuple[float, float]:
            return peer_score(examples, peer_decode(examples, windows, starts, ends, folder), words)

        def with_files() -> Score:
            predictions = task.decode(examples, features, batches, OPTIONS)
            answers = {id: prediction.text for id, prediction in predictions.items()}
            (folder / "ours.json").write_bytes(json.dumps(answers, ensure_ascii=False).encode())
            (folder / "ours_nbest.json").write_bytes(nbest_json(predictions).encode())
            return task.score(examples, answers)

        def one_best() -> Score:
            return scorer(task.best_answers(examples, features, batches, OPTIONS))

        # Processor time: both sides run in one thread, and what else the machine does must not decide.
        def timed(part: str, work: Callable[[], T]) -> T:
            # As timeit does: a collection that falls into one side's turn walks both sides' objects.
            gc.collect()
            gc.disable()
            began = time.process_time()
            result = work()
            seconds[part].append(time.process_time() - began)
            gc.enable()
            return result

        seconds: dict[str, list[float]] = {"peer": [], **{part: [] for part in BARS}}
        for _ in range(ROUNDS):
            peer_em, peer_f1 = timed("peer", peer)
            ours = timed("n-best files", with_files)
            fast = timed("1-best during training", one_best)
    print(f"{len(examples)} questions, {len(features)} windows, median CPU seconds of {ROUNDS} interleaved rounds")
    print(f"EM/F1 of the peer {peer_em:.4f}/{peer_f1:.4f}, ours {ours.values['em']:.4f}/{ours.values['f1']:.4f}")
    assert fast == ours, "the 1-best path and the n-best path disagree"
    median: dict[str, float] = {part: statistics.median(times) for part, times in seconds.items()}
    parts: list[dict[str, Any]] = []
    for part, bar in BARS.items():
        ratio = median["peer"] / median[part]
        print(f"{part:24} {median[part]:.3f} s, peer {median['peer']:.3f} s: {ratio:.1f} x (bar {bar:g} x)")
        parts.append({"name": part, "ratio": round(ratio, 2), "bar": bar, "ok": ratio >= bar})
    worst = min(parts, key=lambda part: part["ratio"] / part["bar"])
    ok = all(part["ok"] for part in parts)
    print(json.dumps({"name": "decode", "ratio": worst["ratio"], "bar": worst["bar"], "ok": ok, "parts": parts}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
