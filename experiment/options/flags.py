"""The options of every subcommand: one documented field per flag, and the only place with defaults.

Flags are named as in transformers' run_qa.py where one exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from preprocess.base.errors import UsageError

HiddenAct = Literal["gelu", "gelu_tanh", "quick_gelu", "relu"]
Optim = Literal["adamw", "bert_adam", "adamw8bit"]
Framework = Literal["pytorch", "tensorflow"]
Rule = tuple[str, Callable[[float], bool]]
#: --optim -> its --adam_epsilon.
ADAM_EPSILON: dict[Optim, float] = {"adamw": 1e-8, "bert_adam": 1e-6, "adamw8bit": 1e-8}
DEFAULT_FEATURE_CACHE = Path("~/.cache/chinese_mrc/features")
DEFAULT_DATA_DIR = Path("~/.cache/chinese_mrc/data")


#: Option -> what its value must satisfy, in words and as a test. No value may be infinite or NaN.
_AT_LEAST_1: Rule = ("at least 1", lambda x: x >= 1)
_AT_LEAST_0: Rule = ("at least 0", lambda x: x >= 0)
_POSITIVE: Rule = ("more than 0", lambda x: x > 0)
#: Far beyond what can be meant, and what 64 bits hold the products of.
_TO_A_MILLION: Rule = ("at least 1 and at most 1000000", lambda x: 1 <= x <= 10**6)
_RANGES: dict[str, Rule] = {
    **dict.fromkeys(("max_seq_length", "doc_stride", "max_query_length", "max_answer_length"), _TO_A_MILLION),
    **dict.fromkeys(("n_best_size", "per_device_eval_batch_size", "steps"), _TO_A_MILLION),
    **dict.fromkeys(("per_device_train_batch_size", "gradient_accumulation_steps"), _TO_A_MILLION),
    "n_devices": ("at least 1 and at most 10000", lambda x: 1 <= x <= 10**4),
    **dict.fromkeys(("max_train_samples", "max_eval_samples", "logging_steps"), _AT_LEAST_1),
    **dict.fromkeys(("save_total_limit", "max_nonfinite_steps"), _AT_LEAST_1),
    "num_train_epochs": ("more than 0 and at most 1000000", lambda x: 0 < x <= 10**6),
    **dict.fromkeys(("eval_epochs", "max_grad_norm", "adam_epsilon"), _POSITIVE),
    **dict.fromkeys(("learning_rate", "weight_decay", "doc_overlap", "save_steps"), _AT_LEAST_0),
    **dict.fromkeys(("gradient_checkpointing", "older_than", "max_size"), _AT_LEAST_0),
    "warmup_ratio": ("between 0 and 1", lambda x: 0 <= x <= 1),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), ("at least 0 and less than 1", lambda x: 0 <= x < 1)),
    **dict.fromkeys(("seed", "seeds"), ("between 0 and 2**32 - 1", lambda x: 0 <= x < 2**32)),
    "null_score_diff_threshold": ("finite", lambda x: True),
    "na_prob_thresh": ("finite", lambda x: True),
}


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which model."""

    model_name_or_path: str | None = None
    """Checkpoint to start from: a directory, a weights file in one, a hub id, or a short name."""
    config_name: str | None = None
    """config.json (or its directory) of a model to train from scratch, if no checkpoint is given."""
    hidden_act: HiddenAct | None = None
    """Overrules the activation of the checkpoint's config."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions(ModelChoice):
    """Which model, and where it runs."""

    framework: Framework = "pytorch"
    """Backend that computes."""
    device: str = "auto"
    """"auto" (the first GPU, else the CPU), "cpu", "cuda:N", or "cuda" (TensorFlow: all GPUs; PyTorch: the first).
    Under torchrun each process has a GPU of its own."""


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions:
    """Which vocabulary."""

    tokenizer_name: str | None = None
    """Directory, vocab.txt or tokenizer.json (default: the checkpoint's own)."""
    do_lower_case: bool | None = None
    """Lower-case and strip accents (default: as the vocabulary and the tokenizer's files tell; the log says why)."""


@dataclass(frozen=True, kw_only=True)
class TaskChoice:
    """Which task, and what may be chosen about it."""

    task: str
    """Task, such as cmrc2018."""
    opencc_config: str | None = None
    """OpenCC configuration that converts the text for the model, such as t2s, or none (default: the task's)."""
    answer_policy: Literal["first", "majority", "all"] | None = None
    """Which of several annotated answers are trained on (default: the task's)."""
    version_2_with_negative: bool = False
    """Some questions have no answer: --task squad with this is --task squad_v2."""


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
class OptimizerOptions:
    """How parameters move."""

    learning_rate: float | None = None
    """Peak learning rate (default: the recipe's)."""
    warmup_ratio: float | None = None
    """Share of all steps with a rising rate (default: the recipe's)."""
    weight_decay: float | None = None
    """Decoupled weight decay, none on biases and LayerNorm (default: the recipe's)."""
    optim: Optim = "adamw"
    """Optimizer: AdamW; that of BERT's authors, which is AdamW without bias correction; or AdamW whose moments take
    a byte each (PyTorch with bitsandbytes)."""
    adam_beta1: float = 0.9
    """Adam's beta1."""
    adam_beta2: float = 0.999
    """Adam's beta2."""
    adam_epsilon: float | None = None
    """Adam's epsilon (default: 1e-8; 1e-6 with --optim bert_adam)."""
    max_grad_norm: float = 1.0
    """Clip the global gradient norm to this."""


@dataclass(frozen=True, kw_only=True)
class StepOptions(TaskChoice, ModelOptions, TokenizerOptions, FeatureOptions, OptimizerOptions):
    """What is trained on, how often, and how a step is computed."""

    train_file: Path | None = None
    """Training data (default: what `download` fetched)."""
    validation_file: Path | None = None
    """Development data: selects the checkpoint (default: what `download` fetched)."""
    data_dir: Path = DEFAULT_DATA_DIR
    """Where `download` keeps its files."""
    seeds: tuple[int, ...] = (123, 456, 789, 556, 977)
    """One model is trained per seed."""
    num_train_epochs: float | None = None
    """Passes over the training data (default: the recipe's)."""
    eval_epochs: float = 0.5
    """Evaluate every so many epochs, and at the end."""
    max_train_samples: int | None = None
    """Use only the first so many training questions."""
    per_device_train_batch_size: int | None = None
    """Windows per forward pass and device (default: the recipe's)."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimizer step."""
    gradient_checkpointing: int = 0
    """Compute so many of the first layers again in backward: less memory, more time, the same numbers."""
    group_by_length: bool = True
    """Batch windows of like length."""
    tf32: bool = False
    """On GPUs, round the factors of float32 matrix products to TF32; faster, and less exact."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(StepOptions):
    """Fine-tune over seeds, evaluate, and print the leaderboard row.

    Options that are left out take the published recipe of the model for the task, else the task's own.
    """

    output_dir: Path
    """Run directory; a finished run in it is never overwritten without --overwrite_output_dir."""
    test_file: Path | None = None
    """Test data, scored once with the selected checkpoint."""
    auto_find_batch_size: bool = False
    """Where memory runs out in training, halve the forward passes, double their number, and take the step again."""
    torch_compile: bool = False
    """PyTorch: compile the model's layers, once per shape of batch."""
    fsdp: bool = False
    """PyTorch under torchrun: each process keeps a part of the parameters, gradients and moments."""
    jit_compile: bool | None = None
    """TensorFlow: let XLA compile the training step, once per shape of batch (default: on GPUs only)."""
    profile: bool = False
    """Write a profiler's trace of a few steps of each seed."""
    logging_steps: int = 50
    """Steps per line of the log."""
    save_steps: int | None = None
    """Steps per training checkpoint, from which the same command goes on; 0 for none (default: one after each
    evaluation, and every 10 minutes between them). SIGTERM and Ctrl-C always leave one."""
    save_total_limit: int = 2
    """Training checkpoints that are kept; all are deleted when the seed is finished."""
    max_nonfinite_steps: int = 20
    """Stop after so many steps in a row whose loss or gradients are not finite."""
    max_eval_samples: int | None = None
    """Use only the first so many development questions."""
    overwrite_output_dir: bool = False
    """Delete what the run directory holds and start anew."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions(StepOptions):
    """Predict memory, largest batch and time of `train` with the same options, on the GPUs that are known."""

    gpu: str | None = None
    """Only this GPU, such as a100-40gb or h100 (default: all that are known)."""
    n_devices: int = 1
    """Devices that share each batch (torchrun)."""
    json: Path | None = None
    """JSON file for the table and all its parts."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(TaskChoice, ModelOptions, TokenizerOptions, FeatureOptions):
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
    """JSON object {question id: answer}, or the official list of {"id", "answer"}."""
    missing_predictions: Literal["wrong", "error"] = "wrong"
    """Whether questions without a prediction are counted as wrong or refused."""
    na_prob_file: Path | None = None
    """JSON object {question id: probability that it has no answer}, for SQuAD 2.0's best thresholds."""
    na_prob_thresh: float = 1.0
    """With --na_prob_file, answers of questions above this probability are taken as empty."""
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
    """Lower-case and strip accents (default: as the vocabulary and the tokenizer's files tell; the log says why)."""
    max_seq_length: tuple[int, ...] = (128, 256, 384, 512)
    """Window lengths to compare, in tokens."""
    doc_stride: int | None = None
    """Tokens between the starts of two windows (default: the recipe's)."""
    max_query_length: int | None = None
    """Questions are cut to this many tokens (default: the recipe's)."""
    histogram: Path | None = None
    """Picture file (.png, .svg or .pdf) for a histogram of the lengths."""


@dataclass(frozen=True, kw_only=True)
class SplitOptions(TaskChoice):
    """Split a data file into train.json and dev.json, articles (cases) undivided, each domain by its share."""

    data_file: Path
    """Data to split."""
    output_dir: Path
    """Gets train.json and dev.json; files that are there are not replaced."""
    test_size: float = 0.1
    """Share of the articles that dev.json gets, between 0 and 1."""
    seed: int = 0
    """Seed of the draw."""


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
    """.npz with input_ids, attention_mask (1 = real token) and token_type_ids, int [B, S]; what it holds under the
    name of an output is compared with that."""
    output: Path | None = None
    """.npz for sequence_output, pooled_output and layer_1 … layer_L, float32."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Write a checkpoint in another format; the numbers stay the same to the last bit."""

    source: Annotated[str, tyro.conf.arg(name="from")]
    """Checkpoint: directory, weights file, TensorFlow prefix, hub id or short name."""
    to: Literal["transformers", "tf1", "reference", "native"]
    """Who shall read it: transformers, the authors' TensorFlow 1 programs, the reference system, or this toolkit."""
    output: Path
    """Directory to write; must not exist, or be empty."""
    hidden_act: HiddenAct | None = None
    """Activation, if the checkpoint's own is to be overruled."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions(TokenizerOptions):
    """Write a fine-tuned checkpoint as TensorFlow's SavedModel, to be served without this toolkit."""

    model_name_or_path: str
    """Fine-tuned checkpoint of either framework, such as the checkpoint-best of a run."""
    output: Path
    """Directory to write; must not exist, or be empty."""
    hidden_act: HiddenAct | None = None
    """Overrules the activation of the checkpoint's config."""


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
class ParityOptions(TaskChoice, ModelChoice, TokenizerOptions, FeatureOptions, OptimizerOptions):
    """Compare both frameworks stage by stage: layers, logits, gradients, optimizer steps, answers."""

    data_file: Path | None = None
    """Data to take windows and questions from (default: random ids, and no questions)."""
    steps: int = 20
    """Optimizer steps to compare, without dropout."""
    per_device_train_batch_size: int = 8
    """Windows per step."""
    max_eval_samples: int | None = None
    """Use only the first so many questions."""
    device: str = "cpu"
    """Where both compute: "cpu", "cuda" (the first GPU), or "cuda:N"."""
    seed: int = 0
    """Seed of fresh weights, of the order of the windows, and of random ids."""
    json: Path | None = None
    """JSON file for the table in full precision."""


@dataclass(frozen=True, kw_only=True)
class TasksOptions:
    """List the tasks: recipe, and files with size, licence and where they are."""

    data_dir: Path = DEFAULT_DATA_DIR
    """Where downloaded files are looked for."""


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    """List the published models: size, longest input, licence, and where they are."""

    model_name_or_path: str | None = None
    """Only this one, a short name or a hub id, with its files, notes and recipes."""
    json: bool = False
    """Print everything that is known, as JSON."""


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Say how much the cached features take, and delete them."""

    feature_cache_dir: Path = DEFAULT_FEATURE_CACHE
    """Where features are cached."""
    prune: bool = False
    """Delete features: all of them, or what the next two options say. Runs that use them go on."""
    older_than: float | None = None
    """With --prune: delete only what was not used for so many days."""
    max_size: float | None = None
    """With --prune: delete only what was used longest ago, until so many gigabytes are left."""


def check_ranges(options: Any) -> None:
    """Refuse values that can't be meant.

    Raises:
        UsageError: naming all of them.
    """
    problems = []
    for name in (field.name for field in fields(options) if field.name in _RANGES):
        words, holds = _RANGES[name]
        value = getattr(options, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not (holds(number) and _finite(number)):
                problems.append(f"--{name} {number}: must be {words}")
    seeds = getattr(options, "seeds", (0,))
    if not seeds or len(set(seeds)) < len(seeds):
        problems.append(f"--seeds {' '.join(map(str, seeds))}: at least one seed, and each once")
    if problems:
        raise UsageError("; ".join(problems))


def _finite(number: float) -> bool:
    # An int is, and one of hundreds of digits is more than math.isfinite can take.
    return isinstance(number, int) or math.isfinite(number)
