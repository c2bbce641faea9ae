"""The accuracy guard: none of what makes training fast moves the score.

Four ways to train the same small BERT on the same questions, with dropout 0.1 and five seeds each:

* default: windows grouped by length, the fast CPU dropout, bfloat16;
* ungrouped: `--no_group_by_length`;
* torch dropout: PyTorch's own dropout and scaled_dot_product_attention in place of `pytorch_modeling.dropout`'s;
* float32.

The corpus is the demo's grammar with other names: no answer of dev occurs in training. The last three are compared
with the default by paired t-tests over the seeds (F1 and EM), and by a test over the contexts of dev that flips the
signs of their F1 differences (each context's questions and all seeds averaged first). That test takes the ten models
as given, so it also sees the luck of their seeds. All nine p-values are corrected together by Holm's method; none may
be below 0.05. Not significant means little if the test is blind, so the 95 % confidence interval of each mean
difference over the seeds is printed: what lies outside it would have been noticed.

The last line is one JSON object. About ten minutes on two cores.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

SEEDS = (1, 2, 3, 4, 5)
#: Contexts of train and dev; about 6.6 questions each.
N_TRAIN, N_DEV = 100, 200
EPOCHS = 18
LEVEL = 0.05
DEFAULT = "default"
#: name -> flags of train
VARIANTS = {
    DEFAULT: ["--bf16"],
    "ungrouped": ["--bf16", "--no_group_by_length"],
    "torch dropout": ["--bf16"],
    "float32": [],
}
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


def write_corpus(directory: Path) -> None:
    """Write train.json, dev.json, vocab.txt and config.json."""
    from corpus_lives import life
    from corpus_names import Names
    from make_corpus import MODEL, cmrc2018_layout, vocabulary

    names = Names("accuracy train")
    train = [life(names) for _ in range(N_TRAIN)]
    names = Names("accuracy dev", dev=True, forbidden="\n".join(context.text for context in train))
    dev = [life(names) for _ in range(N_DEV)]
    vocab = vocabulary(text for c in (*train, *dev) for text in (c.text, *(q.text for q in c.questions)))
    files = {
        "train.json": json.dumps(cmrc2018_layout(train, "TRAIN", 1)),
        "dev.json": json.dumps(cmrc2018_layout(dev, "DEV", 3)),
        "vocab.txt": "\n".join(vocab) + "\n",
        "config.json": json.dumps({**MODEL, **DROPOUT, "vocab_size": len(vocab)}),
    }
    for name, content in files.items():
        (directory / name).write_text(content, encoding="utf-8")


def with_torch_dropout(arguments: list[str]) -> int:
    """Run `run_mrc.py` with the dropout and the attention that PyTorch has."""
    import torch.nn.functional as F
    from torch import Tensor

    from experiment.cli import main as run_mrc
    from pytorch_modeling import layers
    from pytorch_modeling.distances import Distances
    from pytorch_modeling.packing import Packing

    def attention(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | Packing,
        p: float,
        training: bool,
        distances: Distances | None = None,
    ) -> Tensor:
        assert distances is None, "the models compared here have absolute positions"
        assert not isinstance(mask, Packing), "they are compared on a CPU"
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p if training else 0.0)

    def dropout(x: Tensor, p: float, training: bool) -> Tensor:
        return F.dropout(x, p, training)

    layers.attention, layers.dropout = attention, dropout
    return run_mrc(arguments)


class Outcome:
    """The scores of a variant, in percent: one per seed, and F1 of each context averaged over the seeds."""

    def __init__(self, run: Path) -> None:
        """Read them from a run directory."""
        evaluations = [json.loads((run / f"seed_{seed}" / "scores_dev.json").read_text()) for seed in SEEDS]
        self.seeds = {
            name: np.array([evaluation["values"][name] for evaluation in evaluations]) for name in ("f1", "em")
        }
        contexts: dict[str, list[float]] = {}
        for evaluation in evaluations:
            for question, values in evaluation["per_example"].items():
                contexts.setdefault(question.split("_QUERY_")[0], []).append(100 * values["f1"])
        self.contexts = np.array([statistics.fmean(contexts[name]) for name in sorted(contexts)])


def train(name: str, corpus: Path) -> Outcome:
    output = corpus / name.replace(" ", "_")
    program = [__file__, "--torch_dropout"] if name == "torch dropout" else [str(ROOT / "run_mrc.py")]
    command = [
        sys.executable, *program, "train", "--task", "cmrc2018", "--config_name", str(corpus / "config.json"),
        "--tokenizer_name", str(corpus / "vocab.txt"), "--train_file", str(corpus / "train.json"),
        "--validation_file", str(corpus / "dev.json"), "--max_seq_length", "192", "--learning_rate", "3e-3",
        "--per_device_train_batch_size", "32", "--num_train_epochs", str(EPOCHS), "--eval_epochs", str(EPOCHS),
        "--seeds", *map(str, SEEDS), "--feature_cache_dir", str(corpus / "cache"), "--output_dir", str(output),
        *VARIANTS[name],
    ]  # fmt: skip
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode != 0:
        raise SystemExit(f"{name}: exit status {process.returncode}: {process.stderr[-2000:]}")
    return Outcome(output)


def holm(p_values: list[float]) -> list[float]:
    """Return Holm's adjusted p-values (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def p_over_contexts(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of a sign-flip test of the mean difference."""
    from scipy.stats import permutation_test

    result = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(0)
    )
    return float(result.pvalue)


def compare(variant: Outcome, default: Outcome) -> dict[str, Any]:
    """Return the differences variant - default in points, their 95 % intervals, and the p-values."""
    from scipy.stats import ttest_rel

    comparison: dict[str, Any] = {"p": {}}
    for metric in ("f1", "em"):
        test = ttest_rel(variant.seeds[metric], default.seeds[metric])
        low, high = test.confidence_interval(1 - LEVEL)
        mean = float(np.mean(variant.seeds[metric] - default.seeds[metric]))
        comparison[metric] = {"difference": round(mean, 3), "interval": [round(low, 3), round(high, 3)]}
        comparison["p"][f"{metric} over seeds"] = float(test.pvalue)
    comparison["p"]["f1 over contexts"] = p_over_contexts(variant.contexts - default.contexts)
    return comparison


def main() -> int:
    if sys.argv[1:2] == ["--torch_dropout"]:
        return with_torch_dropout(sys.argv[2:])
    outcomes = {}
    with tempfile.TemporaryDirectory() as name:
        write_corpus(Path(name))
        for variant in VARIANTS:
            outcomes[variant] = train(variant, Path(name))
            for metric, values in outcomes[variant].seeds.items():
                scores = " ".join(f"{value:6.2f}" for value in values)
                print(f"{variant:<14}{metric:>3}  mean {values.mean():6.2f}  sd {values.std(ddof=1):5.2f}  {scores}")
            sys.stdout.flush()
    comparisons = {
        variant: compare(outcomes[variant], outcomes[DEFAULT]) for variant in VARIANTS if variant != DEFAULT
    }
    tests = [(variant, test) for variant in comparisons for test in comparisons[variant]["p"]]
    adjusted = holm([comparisons[variant]["p"][test] for variant, test in tests])
    for (variant, test), p in zip(tests, adjusted, strict=True):
        comparisons[variant].setdefault("holm", {})[test] = p
    print(f"\n{'minus default':<14}{'':>3}{'mean':>8}{'95 % interval':>18}{'p over seeds (Holm)':>22}", end="")
    print(f"{'p over contexts (Holm)':>25}")
    for variant, comparison in comparisons.items():
        p, corrected = comparison["p"], comparison["holm"]
        for metric in ("f1", "em"):
            low, high = comparison[metric]["interval"]
            line = (
                f"{variant:<14}{metric:>3}{comparison[metric]['difference']:+8.2f}{f'{low:+.2f} .. {high:+.2f}':>18}"
            )
            shown = [f"{metric} over seeds"] + ["f1 over contexts"] * (metric == "f1")
            print(line + "".join(f"{f'{p[test]:.3f} ({corrected[test]:.3f})':>22}" for test in shown))
    ok = all(p >= LEVEL for comparison in comparisons.values() for p in comparison["holm"].values())
    means = {variant: round(float(outcome.seeds["f1"].mean()), 2) for variant, outcome in outcomes.items()}
    print(
        json.dumps({"name": "accuracy", "seeds": len(SEEDS), "f1": means, "against_default": comparisons, "ok": ok})
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
