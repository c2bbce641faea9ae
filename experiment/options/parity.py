"""Options of `parity`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiment.options.data import Count, FeatureCacheOptions, TaskChoice
from experiment.options.devices import PrecisionOptions
from experiment.options.methods import MethodOptions
from experiment.options.model import ModelChoice, TokenizerOptions
from experiment.options.optimisation import OptimizerOptions, Seed
from experiment.options.windows import Size, WindowOptions


@dataclass(frozen=True, kw_only=True)
class ParityOptions(
    TaskChoice,
    ModelChoice,
    TokenizerOptions,
    WindowOptions,
    OptimizerOptions,
    MethodOptions,
    PrecisionOptions,
    FeatureCacheOptions,
):
    """Compare both frameworks stage by stage: layers, logits, gradients, optimizer steps, answers.

    Examples:
        parity --task cmrc2018 --model_name_or_path hfl/chinese-roberta-wwm-ext --data_file dev.json
        parity --task cmrc2018 --config_name examples/corpus --steps 5
        parity --task cjrc --model_name_or_path runs/cjrc/seed_1/checkpoint-best --data_file dev.json --bf16
    """

    data_file: Path | None = None
    """Data to take windows and questions from (default: random ids, and no questions)."""
    steps: Size = 20
    """Optimizer steps to compare, without dropout."""
    per_device_train_batch_size: Size = 8
    """Windows per step."""
    max_eval_samples: Count | None = None
    """Use only the first so many questions."""
    device: str = "cpu"
    """Where both compute: cpu, cuda (the first GPU), or cuda:N."""
    seed: Seed = 0
    """Seed of fresh weights, of the order of the windows, and of random ids."""
    json: Path | None = None
    """JSON file for the table in full precision."""
