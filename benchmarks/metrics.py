"""Official scores of whole development sets, against straightforward Python transcriptions (`_recipe.py`).

CMRC2018 and DRCD by the CMRC2018 metric, CJRC by both its metrics; gold preparation included, as in `evaluate`.
Three of ten predictions are the first answer, the others are cut, shifted or taken from another question. NLTK, which
either side needs for a few segments and which takes a second or two to import, is imported before.
Needs MRC_DATA_DIR with cmrc2018/cmrc2018_dev.json, drcd/DRCD_dev.json and cjrc/dev_ground_truth.json.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _recipe import Words, nltk_words, score_cjrc, score_cmrc, timed  # noqa: E402

from preprocess.readers.mrc import read_examples  # noqa: E402
from preprocess.types import Example  # noqa: E402
from tasks.cjrc import TASK as CJRC  # noqa: E402
from tasks.metrics.cmrc import CmrcScorer  # noqa: E402
from tasks.metrics.segment import split_words  # noqa: E402

ROUNDS = 5
FILES = {
    "cmrc2018": "cmrc2018/cmrc2018_dev.json",
    "drcd": "drcd/DRCD_dev.json",
    "cjrc": "cjrc/dev_ground_truth.json",
}
RATIO_BAR = 5.0
SECONDS_BAR = 1.0


def perturbed(examples: Sequence[Example]) -> dict[str, str]:
    """Predictions of a middling model."""
    source = random.Random(0)
    predictions = {}
    for example in examples:
        answer = example.answers[0]
        text, draw = answer.text, source.random()
        if draw >= 0.3 and answer.located:
            start, end = (max(0, place + source.randint(-5, 5)) for place in (answer.char_start, answer.char_end))
            text = example.context[start:end]
        elif draw >= 0.3:
            text = source.choice(source.choice(examples).answers).text
        predictions[example.id] = text
    return predictions


def measure(name: str, file: Path, words: Words) -> dict[str, Any]:
    examples, _ = CJRC.read(file) if name == "cjrc" else read_examples(file)
    predictions = perturbed(examples)

    def ours() -> dict[str, float]:
        # The cache of words must not carry over from round to round.
        split_words.cache_clear()
        if name == "cjrc":
            return dict(CJRC.score(examples, predictions).values)
        gold = {example.id: [answer.text for answer in example.answers] for example in examples}
        return dict(CmrcScorer(gold)(predictions).values)

    def peer() -> dict[str, float]:
        return (score_cjrc if name == "cjrc" else score_cmrc)(examples, predictions, words)

    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(ROUNDS):
        fast, slow = timed(seconds["ours"], ours), timed(seconds["peer"], peer)
    assert all(abs(fast[key] - value) < 1e-6 for key, value in slow.items()), (fast, slow)
    spent = {side: statistics.median(times) for side, times in seconds.items()}
    ratio = spent["peer"] / spent["ours"]
    print(f"{name:9} {len(examples)} questions, {', '.join(f'{key} {value:.3f}' for key, value in slow.items())}")
    print(f"{'':9} {spent['ours']:.3f} s (bar {SECONDS_BAR:g} s), peer {spent['peer']:.3f} s", end="")
    print(f": {ratio:.1f} x (bar {RATIO_BAR:g} x)")
    ok = ratio >= RATIO_BAR and spent["ours"] < SECONDS_BAR
    return {"name": name, "ratio": round(ratio, 2), "bar": RATIO_BAR, "seconds": round(spent["ours"], 3), "ok": ok}


def main() -> int:
    directory = os.environ.get("MRC_DATA_DIR")
    if not directory:
        print("MRC_DATA_DIR is not set; point it at the folder that holds cmrc2018/, drcd/ and cjrc/.")
        return 2
    words = nltk_words()
    split_words("etc. and")
    print(f"median CPU seconds of {ROUNDS} interleaved rounds")
    parts = [measure(name, Path(directory, file), words) for name, file in FILES.items()]
    worst = min(parts, key=lambda part: part["ratio"])
    ok = all(part["ok"] for part in parts)
    print(json.dumps({"name": "metrics", "ratio": worst["ratio"], "bar": RATIO_BAR, "ok": ok, "parts": parts}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
