"""What commands have in common that take optimizer steps on a task's questions, or plan them."""

from __future__ import annotations

from dataclasses import dataclass

from experiment.options.data import AugmentOptions, FeatureCacheOptions, JointOptions, TasksChoice, TrainingFiles
from experiment.options.devices import DeviceChoice, PrecisionOptions, StepPrecisionOptions
from experiment.options.methods import MethodOptions
from experiment.options.model import ModelChoice, TokenizerOptions
from experiment.options.optimisation import OptimizerOptions, ScheduleOptions
from experiment.options.windows import WindowOptions


@dataclass(frozen=True, kw_only=True)
class StepOptions(
    TasksChoice,
    TrainingFiles,
    AugmentOptions,
    FeatureCacheOptions,
    JointOptions,
    ModelChoice,
    TokenizerOptions,
    WindowOptions,
    ScheduleOptions,
    OptimizerOptions,
    MethodOptions,
    DeviceChoice,
    PrecisionOptions,
    StepPrecisionOptions,
):
    """What is trained on, how often, and how a step is computed."""
