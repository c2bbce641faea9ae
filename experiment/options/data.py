"""Options about the task and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from experiment.options.fields import AT_LEAST_1

#: A number of questions, steps or files.
Count = Annotated[int, AT_LEAST_1]
DEFAULT_FEATURE_CACHE = Path("~/.cache/chinese_mrc/features")
DEFAULT_DATA_DIR = Path("~/.cache/chinese_mrc/data")


@dataclass(frozen=True, kw_only=True)
class TaskChoice:
    """Task."""

    task: str
    """Task, such as cmrc2018 (`tasks` lists them)."""
    opencc_config: str | None = None
    """OpenCC configuration that converts the text for the model, such as t2s, or none (default: the task's)."""
    answer_policy: Literal["first", "majority", "all"] | None = None
    """Which of several annotated answers are trained on (default: the task's)."""
    assignment: Literal["independent", "one_to_one"] | None = None
    """Whether a candidate may fill several blanks of a passage (default: the task's, which is independent)."""
    version_2_with_negative: bool = False
    """Some questions have no answer: --task squad with this is --task squad_v2."""


@dataclass(frozen=True, kw_only=True)
class TrainingFiles:
    """Data."""

    train_file: Path | None = None
    """Training data (default: what `download` fetched)."""
    validation_file: Path | None = None
    """Development data: selects the checkpoint (default: what `download` fetched)."""
    data_dir: Path = DEFAULT_DATA_DIR
    """Where `download` keeps its files."""
    max_train_samples: Count | None = None
    """Use only the first so many training questions."""


@dataclass(frozen=True, kw_only=True)
class EvaluationFiles:
    """Data."""

    test_file: Path | None = None
    """Test data, scored once with the selected checkpoint."""
    max_eval_samples: Count | None = None
    """Use only the first so many development questions."""


@dataclass(frozen=True, kw_only=True)
class FeatureCacheOptions:
    """Data."""

    feature_cache_dir: Path | None = DEFAULT_FEATURE_CACHE
    """Where features are cached; None for no cache."""
