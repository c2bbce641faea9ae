"""The usual recipes in plain Python, in our own writing: what the benchmarks measure ours against.

* `decode_spans`: what transformers' `utils_qa.postprocess_qa_predictions` describes: sort the logits of each window,
  loop over all pairs of the 20 best, sort, softmax, write both JSON files.
* `decode_kinds`: the same with null answers, as `write_predictions` of the reference system for CJRC does it: Python
  sorts, string keys, and for each candidate a search for its pieces in the normalised characters of its words.
* `score_cmrc`: as the official script does: every answer is segmented anew, character by character with a regular
  expression, and the longest common substring is found by filling a table.
* `score_cjrc`: as the official script does: every pair is normalised anew, character by character, for each answer
  left out; then the CMRC2018 metric with an accuracy per kind, as the reference system reports it.
"""

from __future__ import annotations

import collections
import gc
import json
import math
import re
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from preprocess.types import Example, FeatureSet
from tasks.core.prediction import DecodeOptions
from tasks.metrics.segment import PUNCTUATION

LISTED = list(PUNCTUATION)
OPTIONS = DecodeOptions(n_best_size=20, max_answer_length=50)
Words = Callable[[str], list[str]]
T = TypeVar("T")

Window = dict[str, Any]


def lay_out(examples: Sequence[Example], features: FeatureSet, vocabulary: Sequence[str]) -> dict[str, list[Window]]:
    """Lay the features out as the recipes hold them: pieces, and character offsets (None outside the context)."""
    windows = collections.defaultdict(list)
    for index in range(len(features)):
        example = features.example_index[index]
        first = features.piece_splits[features.context_index[index]] + features.piece_start[index]
        offset, length = features.doc_offset[index], features.doc_length[index]
        spans = [tuple(span) for span in features.piece_spans[first : first + length].tolist()]
        low, high = (features.max_context[index] + offset).tolist()
        windows[examples[example].id].append(
            {
                "index": index,
                "tokens": [vocabulary[i] for i in features.input_ids[slice(*features.row_splits[index : index + 2])]],
                "offsets": [None] * int(offset) + spans + [None],
                "max_context": {str(p): low <= p < high for p in range(offset, offset + length)},
            }
        )
    return windows


def decode_spans(
    examples: Sequence[Example],
    windows: dict[str, list[Window]],
    starts: NDArray[np.float32],
    ends: NDArray[np.float32],
    folder: Path,
) -> dict[str, str]:
    predictions, nbest_lists = {}, {}
    for example in examples:
        candidates = []
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
                    candidates.append(
                        {
                            "offsets": (offsets[start][0], offsets[end][1]),
                            "score": start_logits[start] + end_logits[end],
                            "start_logit": start_logits[start],
                            "end_logit": end_logits[end],
                        }
                    )
        nbest = sorted(candidates, key=lambda entry: entry["score"], reverse=True)[: OPTIONS.n_best_size]
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


def published_text(tokens: Sequence[str], words: str) -> str:
    """Find the pieces in the words that they come from, without blanks, case and accents."""
    wanted = "".join(tokens).replace("##", "").strip()
    characters, places = [], []
    for place, character in enumerate(words):
        if character.isspace() or unicodedata.category(character) in ("Cc", "Cf"):
            continue
        for part in unicodedata.normalize("NFD", character.lower()):
            if unicodedata.category(part) != "Mn":
                characters.append(part)
                places.append(place)
    position = "".join(characters).find(wanted)
    return words if position < 0 else words[places[position] : places[position + len(wanted) - 1] + 1]


def decode_kinds(
    examples: Sequence[Example],
    windows: dict[str, list[Window]],
    logits: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    folder: Path,
) -> dict[str, str]:
    predictions, nbest_lists = {}, {}
    for example in examples:
        candidates: list[dict[str, Any]] = []
        null_score, null = math.inf, {}
        for window in windows[example.id]:
            start_logits, end_logits, kind_logits = (values[window["index"]].tolist() for values in logits)
            offsets = window["offsets"]
            best_starts, best_ends = (
                [p for p, _ in sorted(enumerate(values), key=lambda x: x[1], reverse=True)[: OPTIONS.n_best_size]]
                for values in (start_logits, end_logits)
            )
            if start_logits[0] + end_logits[0] < null_score:
                null_score = start_logits[0] + end_logits[0]
                text = ("", "YES", "NO")[int(np.argmax(kind_logits))]
                null = {"text": text, "start_logit": start_logits[0], "end_logit": end_logits[0]}
            for start in best_starts:
                for end in best_ends:
                    if start >= len(offsets) or end >= len(offsets) or offsets[start] is None or offsets[end] is None:
                        continue
                    if not window["max_context"].get(str(start), False):
                        continue
                    if end < start or end - start + 1 > OPTIONS.max_answer_length:
                        continue
                    candidates.append(
                        {
                            "offsets": (offsets[start][0], offsets[end][1]),
                            "tokens": window["tokens"][start : end + 1],
                            "start_logit": start_logits[start],
                            "end_logit": end_logits[end],
                        }
                    )
        candidates.append(null)
        candidates.sort(key=lambda entry: entry["start_logit"] + entry["end_logit"], reverse=True)
        nbest: list[dict[str, Any]] = []
        seen = set()
        for entry in candidates:
            if len(nbest) == OPTIONS.n_best_size:
                break
            if "offsets" in entry:
                low, high = entry.pop("offsets")
                entry["text"] = published_text(entry.pop("tokens"), example.context[low:high])
            if entry["text"] not in seen:
                seen.add(entry["text"])
                nbest.append(entry)
        if "" not in seen:
            nbest.append({**null, "text": ""})
        scores = [entry["start_logit"] + entry["end_logit"] for entry in nbest]
        exponential = [math.exp(score - max(scores)) for score in scores]
        for entry, weight in zip(nbest, exponential, strict=True):
            entry["probability"] = weight / sum(exponential)
        span = next((entry for entry in nbest if entry["text"] not in ("", "YES", "NO")), None)
        is_span = span is not None and null_score - span["start_logit"] - span["end_logit"] <= 0.0
        predictions[example.id] = span["text"] if span is not None and is_span else null["text"]
        nbest_lists[example.id] = nbest
    (folder / "peer.json").write_text(json.dumps(predictions, indent=4) + "\n")
    (folder / "peer_nbest.json").write_text(json.dumps(nbest_lists, indent=4) + "\n")
    return predictions


def segment(text: str, words: Words) -> list[str]:
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


def common_substring(a: list[str], b: list[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    best = 0
    for i in range(len(a)):
        for j in range(len(b)):
            if a[i] == b[j]:
                table[i + 1][j + 1] = table[i][j] + 1
                best = max(best, table[i + 1][j + 1])
    return best


def cmrc_pair(answers: Sequence[str], prediction: str, words: Words) -> tuple[float, float]:
    scores, equal = [], 0
    for answer in answers:
        gold, predicted = segment(answer, words), segment(prediction, words)
        common = common_substring(gold, predicted)
        precision, recall = (common / len(predicted), common / len(gold)) if common else (0.0, 0.0)
        scores.append(2 * precision * recall / (precision + recall) if common else 0.0)
        bare = ["".join(c for c in text.lower().strip() if c not in LISTED) for text in (answer, prediction)]
        equal = max(equal, int(bare[0] == bare[1]))
    return float(equal), max(scores)


def score_cmrc(examples: Sequence[Example], predictions: dict[str, str], words: Words) -> dict[str, float]:
    exact = total = 0.0
    for example in examples:
        em, f1 = cmrc_pair([answer.text for answer in example.answers], predictions[example.id], words)
        exact += em
        total += f1
    return {"em": 100 * exact / len(examples), "f1": 100 * total / len(examples)}


def letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isdigit() or c.isalpha())


def bag_f1(answer: str, prediction: str) -> float:
    gold, predicted = list(letters(answer)), list(letters(prediction))
    common = sum((collections.Counter(gold) & collections.Counter(predicted)).values())
    if not gold or not predicted:
        return float(gold == predicted)
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def score_cjrc(examples: Sequence[Example], predictions: dict[str, str], words: Words) -> dict[str, float]:
    totals: dict[str, float] = collections.defaultdict(float)
    for example in examples:
        answers, prediction = [answer.text for answer in example.answers] or [""], predictions[example.id]
        em = f1 = 0.0
        for left_out in range(len(answers)):
            others = answers[:left_out] + answers[left_out + 1 :] or answers
            em += max(float(letters(other) == letters(prediction)) for other in others)
            f1 += max(bag_f1(other, prediction) for other in others)
        for domain in ("", f"_{example.extra['domain']}"):
            totals[f"em{domain}"] += em / len(answers)
            totals[f"f1{domain}"] += f1 / len(answers)
            totals[f"n{domain}"] += 1
        em, f1 = cmrc_pair(answers, prediction, words)
        totals["reference_em"] += em
        totals["reference_f1"] += f1
        for text in [answer for answer in answers if answer in ("YES", "NO")] if any(answers) else [""]:
            totals[f"n {text}"] += 1
            totals[f"right {text}"] += prediction == text
    values = {
        f"{m}{d}": 100 * totals[f"{m}{d}"] / totals[f"n{d}"]
        for d in ("", "_civil", "_criminal")
        for m in ("em", "f1")
    }
    values |= {name: 100 * totals[name] / len(examples) for name in ("reference_em", "reference_f1")}
    kinds = {"yes_accuracy": "YES", "no_accuracy": "NO", "unknown_accuracy": ""}
    return values | {name: 100 * totals[f"right {text}"] / totals[f"n {text}"] for name, text in kinds.items()}


def nltk_words() -> Words:
    """Sentences, then words, like `word_tokenize`; on this data the missing English model changes no score."""
    from nltk.tokenize.destructive import NLTKWordTokenizer
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    sentences, words = PunktSentenceTokenizer(), NLTKWordTokenizer()
    return lambda run: [word for sentence in sentences.tokenize(run) for word in words.tokenize(sentence)]


def timed(seconds: list[float], work: Callable[[], T]) -> T:
    """Run and note the processor time: both sides have one thread, and what else the machine does must not decide."""
    # As timeit does: a collection that falls into one side's turn walks both sides' objects.
    gc.collect()
    gc.disable()
    began = time.process_time()
    result = work()
    seconds.append(time.process_time() - began)
    gc.enable()
    return result
