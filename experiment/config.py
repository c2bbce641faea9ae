"""The options of every subcommand: one documented field per flag, and the only place with defaults.

Flags are named as in transformers' run_qa.py where one exists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import tyro

Framework = Literal["pytorch", "tensorflow"]
DEFAULT_FEATURE_CACHE = Path("~/.cache/chinese_mrc/features")
DEFAULT_DATA_DIR = Path("~/.cache/chinese_mrc/data")


#: Option -> (smallest value, largest value, whether the smallest itself is allowed).
_RANGES: dict[str, tuple[float, float, bool]] = {
    **dict.fromkeys(("max_seq_length", "doc_stride", "max_query_length", "max_answer_length"), (1, math.inf, True)),
    **dict.fromkeys(("n_best_size", "per_device_eval_batch_size", "logging_steps"), (1, math.inf, True)),
    **dict.fromkeys(("per_device_train_batch_size", "gradient_accumulation_steps"), (1, math.inf, True)),
    **dict.fromkeys(("max_train_samples", "max_eval_samples"), (1, math.inf, True)),
    **dict.fromkeys(("num_train_epochs", "eval_epochs", "max_grad_norm", "adam_epsilon"), (0, math.inf, False)),
    **dict.fromkeys(("learning_rate", "weight_decay", "doc_overlap"), (0, math.inf, True)),
    **dict.fromkeys(("warmup_ratio", "adam_beta1", "adam_beta2"), (0, 1, True)),
    "seeds": (0, 2**32 - 1, True),
}


class UsageError(ValueError):
    """The options can't be carried out; the message says what was found, what was expected and the remedy."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, and where it runs."""

    model_name_or_path: str | None = None
    """Checkpoint to start from: a directory, a weights file in one, a hub id, or a short name."""
    config_name: str | None = None
    """config.json (or its directory) of a model to train from scratch, if no checkpoint is given."""
    tokenizer_name: str | None = None
    """Directory, vocab.txt or tokenizer.json (default: the checkpoint's own)."""
    do_lower_case: bool | None = None
    """Lower-case and strip accents (default: what the tokenizer's files say, else yes)."""
    hidden_act: Literal["gelu", "gelu_tanh", "relu"] | None = None
    """Overrules the activation of the checkpoint's config."""
    framework: Framework = "pytorch"
    """Backend that computes."""
    device: str = "auto"
    """"auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:N"."""


@dataclass(frozen=True, kw_only=True)
class TaskChoice:
    """Which task, and what may be chosen about it."""

    task: str
    """Task, such as cmrc2018."""
    opencc_config: str | None = None
    """OpenCC configuration that converts the text for the model, such as t2s, or none (default: the task's)."""
    answer_policy: Literal["first", "majority", "all"] | None = None
    """Which of several annotated answers are trained on (default: the task's)."""


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """How text becomes windows, and windows become answers."""

    max_seq_length: int | None = None
    """Window length in tokens (default: the recipe's)."""
    doc_stride: int | None = None
    """Tokens between the starts of two windows, as in Google's BERT (default: the recipe's)."""
    doc_overlap: int | None = None
    """Tokens that two windows share: transformers' meaning of stride; replaces --doc_stride."""
    max_query_length: int | None = None
    """Questions are cut to this many tokens (default: the recipe's)."""
    max_answer_length: int | None = None
    """Longest answer, in tokens (default: the recipe's)."""
    n_best_size: int | None = None
    """Start and end positions considered per window, and answers listed per question (default: the recipe's)."""
    null_score_diff_threshold: float | None = None
    """Answer "unanswerable" where its score exceeds the best span's by more (default: 0; `train` tunes it on dev)."""
    per_device_eval_batch_size: int = 32
    """Windows per batch in evaluation."""
    bf16: bool = False
    """Compute in bfloat16; weights stay in float32."""
    fp16: bool = False
    """Compute in float16 with loss scaling; weights stay in float32."""
    feature_cache_dir: Path | None = DEFAULT_FEATURE_CACHE
    """Where features are cached; "None" for no cache."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(TaskChoice, ModelOptions, FeatureOptions):
    """Fine-tune over seeds, evaluate, and print the leaderboard row.

    Options that are left out take the published recipe of the model for the task, else the task's own.
    """

    output_dir: Path
    """Run directory; a finished run in it is never overwritten without --overwrite_output_dir."""
    train_file: Path
    """Training data."""
    validation_file: Path
    """Development data: selects the checkpoint."""
    test_file: Path | None = None
    """Test data, scored once with the selected checkpoint."""
    seeds: tuple[int, ...] = (123, 456, 789, 556, 977)
    """One model is trained per seed."""
    num_train_epochs: float | None = None
    """Passes over the training data (default: the recipe's)."""
    per_device_train_batch_size: int | None = None
    """Windows per forward pass (default: the recipe's)."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimizer step."""
    learning_rate: float | None = None
    """Peak learning rate (default: the recipe's)."""
    warmup_ratio: float | None = None
    """Share of all steps with a rising rate (default: the recipe's)."""
    weight_decay: float | None = None
    """Decoupled weight decay, none on biases and LayerNorm (default: the recipe's)."""
    adam_beta1: float = 0.9
    """AdamW's beta1."""
    adam_beta2: float = 0.999
    """AdamW's beta2."""
    adam_epsilon: float = 1e-8
    """AdamW's epsilon."""
    max_grad_norm: float = 1.0
    """Clip the global gradient norm to this."""
    group_by_length: bool = True
    """Batch windows of like length."""
    eval_epochs: float = 0.5
    """Evaluate every so many epochs, and at the end."""
    logging_steps: int = 50
    """Steps per line of the log."""
    max_train_samples: int | None = None
    """Use only the first so many training questions."""
    max_eval_samples: int | None = None
    """Use only the first so many development questions."""
    overwrite_output_dir: bool = False
    """Delete what the run directory holds and start anew."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(TaskChoice, ModelOptions, FeatureOptions):
    """Answer the questions of a file, or one question, with a fine-tuned model."""

    test_file: Path | None = None
    """Questions to answer, in the task's layout."""
    output_dir: Path | None = None
    """Gets predictions.json and nbest_predictions.json."""
    question: str | None = None
    """One question, instead of --test_file."""
    context: str | None = None
    """The text that answers --question."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(TaskChoice):
    """Score a prediction file with the task's official metric."""

    data_file: Path
    """Data with the gold answers."""
    predictions: Path
    """JSON object {question id: answer}."""
    output: Path | None = None
    """JSON file for all values and the scores per question."""


@dataclass(frozen=True, kw_only=True)
class StatsOptions(TaskChoice):
    """Print how long the texts are, and what each window length cuts off."""

    data_file: Path
    """Data to measure."""
    tokenizer_name: str
    """Directory, vocab.txt or tokenizer.json."""
    do_lower_case: bool | None = None
    """Lower-case and strip accents (default: what the tokenizer's files say, else yes)."""
    max_seq_length: tuple[int, ...] = (128, 256, 384, 512)
    """Window lengths to compare, in tokens."""
    doc_stride: int | None = None
    """Tokens between the starts of two windows (default: the recipe's)."""
    max_query_length: int | None = None
    """Questions are cut to this many tokens (default: the recipe's)."""
    histogram: Path | None = None
    """Picture file (.png, .svg or .pdf) for a histogram of the lengths."""


@dataclass(frozen=True, kw_only=True)
class LeaderboardOptions:
    """Tabulate run directories as mean(max) over their seeds."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""
    output: Path | None = None
    """Markdown file for the table."""


@dataclass(frozen=True, kw_only=True)
class InspectOptions(ModelOptions):
    """Print a checkpoint's architecture and what its files loaded into; compute its hidden states."""

    seed: int = 0
    """Seed of the weights, if no checkpoint is given."""
    inputs: Path | None = None
    """.npz with input_ids, attention_mask (1 = real token) and token_type_ids, int [B, S]."""
    output: Path | None = None
    """.npz for sequence_output, pooled_output and layer_1 … layer_L, float32."""


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """Fetch a task's published files; an interrupted download goes on where it stopped."""

    task: str
    """Task, such as cmrc2018."""
    splits: tuple[str, ...] = ()
    """Only these, such as train dev (default: all that are published)."""
    data_dir: Path = DEFAULT_DATA_DIR
    """Gets a directory per task; `train --task T` looks for its files there."""


@dataclass(frozen=True, kw_only=True)
class ValidateOptions:
    """Check data files question by question, and splits for text that they share."""

    task: str
    """Task whose layout the files have, such as cmrc2018."""
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Files to check."""
    train: Path | None = None
    """Training data, to be compared with --dev; both are checked as well."""
    dev: Path | None = None
    """Development data, to be compared with --train."""
    output: Path | None = None
    """JSON file for everything, all ids included."""


@dataclass(frozen=True, kw_only=True)
class TasksOptions:
    """List the tasks: recipe, and files with size, licence and where they are."""

    data_dir: Path = DEFAULT_DATA_DIR
    """Where downloaded files are looked for."""


def check_ranges(options: Any) -> None:
    """Refuse values that can't be meant.

    Raises:
        UsageError: naming all of them.
    """
    problems = []
    for name in (field.name for field in fields(options) if field.name in _RANGES):
        low, high, inclusive = _RANGES[name]
        value = getattr(options, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not (low < number <= high or (inclusive and number == low)):
                allowed = f"at least {low:g}" if inclusive else f"more than {low:g}"
                limit = "" if high == math.inf else f" and at most {high:g}"
                problems.append(f"--{name} {number}: must be {allowed}{limit}")
    seeds = getattr(options, "seeds", (0,))
    if not seeds or len(set(seeds)) < len(seeds):
        problems.append(f"--seeds {' '.join(map(str, seeds))}: at least one seed, and each once")
    if problems:
        raise UsageError("; ".join(problems))
