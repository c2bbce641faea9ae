"""Attention with dropout on a CPU, forward and backward, against PyTorch's own scaled_dot_product_attention.

bfloat16, 8 x 4 heads x 512 positions x 64, dropout 0.1, interleaved, median of 5. The last line is one JSON object.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pytorch_modeling.attention import attention  # noqa: E402

SHAPE, P, ROUNDS, BAR = (8, 4, 512, 64), 0.1, 5, 2.0


def seconds(function: Callable[[], Tensor]) -> float:
    started = time.perf_counter()
    function().sum().backward()
    return time.perf_counter() - started


def main() -> int:
    q, k, v = (torch.randn(SHAPE, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    mask = torch.ones(SHAPE[0], 1, 1, SHAPE[2], dtype=torch.bool)
    ours = lambda: attention(q, k, v, mask, P, training=True)  # noqa: E731
    theirs = lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=P)  # noqa: E731
    rounds = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS + 1)][1:]  # the first round warms up
    our_s, their_s = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(f"ours {our_s:.4f} s, scaled_dot_product_attention {their_s:.4f} s")
    ratio = their_s / our_s
    print(json.dumps({"name": "attention", "ratio": round(ratio, 2), "bar": BAR, "ok": ratio >= BAR}))
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
