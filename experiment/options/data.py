"""Options about the task and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from experiment.options.fields import ABOVE_0, AT_LEAST_1, SHARE
from experiment.options.optimisation import Seed

#: A data file, or several that are read as one, in this order.
Files = Path | tuple[Path, ...]
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
class TaskOfModel(TaskChoice):
    """Task."""

    task: str = ""
    """Task (default: the one that the model was fine-tuned for)."""


@dataclass(frozen=True, kw_only=True)
class TasksChoice(TaskChoice):
    """Task."""

    task: str
    """Task, such as cmrc2018 (`tasks` lists them); several with commas are learned together by one model."""


@dataclass(frozen=True, kw_only=True)
class JointOptions:
    """Task."""

    task_sampling: Literal["proportional", "temperature", "equal", "weights"] | None = None
    """Which task a step draws from: each as often as it has steps in an epoch (the default), these numbers to the
    power of 1 / --sampling_temperature, all equally often, or as --task_weights says."""
    sampling_temperature: Annotated[float, ABOVE_0] | None = None
    """1 is proportional, the more the more equal (default: 2)."""
    task_weights: Mapping[str, Annotated[float, ABOVE_0]] | None = None
    """How often each task's turn comes, such as cmrc2018=2 drcd=1 cjrc=1."""


@dataclass(frozen=True, kw_only=True)
class TrainingFiles:
    """Data."""

    train_file: Files | Mapping[str, Files] | None = None
    """Training data; several files are read as one (default: what `download` fetched)."""
    validation_file: Files | Mapping[str, Files] | None = None
    """Development data: selects the checkpoint; several files are read as one (default: what `download` fetched)."""
    data_dir: Path = DEFAULT_DATA_DIR
    """Where `download` keeps its files."""
    max_train_samples: Count | None = None
    """Use only the first so many training questions."""


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Augmentation."""

    more_train_files: tuple[Path, ...] = ()
    """Further training files of the task, beside --train_file, such as those of a first stage."""
    more_train_rates: tuple[Annotated[float, SHARE], ...] = ()
    """Share of the questions of each of them that is drawn, 0-1 (default: all)."""
    augment_delete_answer: Annotated[float, SHARE] = 0.0
    """Of tasks with unanswerable questions: share of the questions with an answer, 0-1, that are asked once more of
    their text without the sentences that hold it (docs/augmentation.md)."""
    augment_other_context: Annotated[float, SHARE] = 0.0
    """The same of another text of their article, which does not hold it."""
    augment_weak_spans: Annotated[float, SHARE] = 0.0
    """Train on the longest part of an answer that stands in the text, where all of it has no place there, if it is
    at least this share of it, such as 0.8; 0 leaves such questions out."""
    augment_seed: Seed = 0
    """Seed of the draws."""


@dataclass(frozen=True, kw_only=True)
class EvaluationFiles:
    """Data."""

    test_file: Files | Mapping[str, Files] | None = None
    """Test data, scored once with the selected checkpoint; several files are read as one."""
    max_eval_samples: Count | None = None
    """Use only the first so many development questions."""


@dataclass(frozen=True, kw_only=True)
class FeatureCacheOptions:
    """Data."""

    feature_cache_dir: Path | None = DEFAULT_FEATURE_CACHE
    """Where features are cached; None for no cache."""
