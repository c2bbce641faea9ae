"""Two models with five seeds each on 1,000 questions: interval of the difference and p value, 10,000 resamples.

Beside it scipy's bootstrap (BCa, paired) of one difference per question, which knows neither seeds nor contexts.
Best of five rounds, interleaved; one thread. The last line is one JSON object. Bar: two seconds.
"""

from __future__ import annotations

import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from scipy import stats  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiment.report.statistics import Sample, compare  # noqa: E402

N_QUESTIONS, N_SEEDS, N_RESAMPLES, ROUNDS = 1000, 5, 10_000, 5
SECONDS_BAR = 2.0


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    random = np.random.default_rng(0)
    difficulty = random.standard_normal((N_QUESTIONS, 1))
    scores = [
        (difficulty + random.standard_normal((N_QUESTIONS, N_SEEDS)) > threshold).astype(float)
        for threshold in (0.0, 0.1)
    ]

    def ours() -> None:
        # New each time: a sample keeps what it has computed.
        first, second = (Sample(values, np.arange(N_QUESTIONS)) for values in scores)
        compare([(first, second)], n_resamples=N_RESAMPLES)

    def theirs() -> None:
        difference = scores[0].mean(axis=1) - scores[1].mean(axis=1)
        stats.bootstrap((difference,), np.mean, n_resamples=N_RESAMPLES, method="BCa", rng=0)

    rounds = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    own, other = (min(times) for times in zip(*rounds, strict=True))
    result = {
        "benchmark": "intervals",
        "questions": N_QUESTIONS,
        "seeds": N_SEEDS,
        "resamples": N_RESAMPLES,
        "ours_s": round(own, 3),
        "scipy_bootstrap_s": round(other, 3),
        "ratio": round(other / own, 2),
        "bar_s": SECONDS_BAR,
        "ok": own < SECONDS_BAR,
    }
    print(json.dumps(result))
    if not result["ok"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
