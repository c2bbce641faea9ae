"""What was typed -> a recipe, in which nothing was left out. From there on nobody asks what was typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, overload

from experiment.options.data import TaskChoice
from experiment.options.devices import Framework, PrecisionOptions
from experiment.options.distillation import DistillationOptions
from experiment.options.fields import check_ranges
from experiment.options.flags import (
    ParityOptions,
    PlanOptions,
    PredictOptions,
    PretrainOptions,
    StatsOptions,
    TrainOptions,
)
from experiment.options.help import Default
from experiment.options.joint import PROPORTIONAL, Sampling, task_name
from experiment.options.methods import check_together
from experiment.options.optimisation import ADAM_EPSILON, Optim
from preprocess.base.errors import UsageError
from preprocess.base.methods import Methods
from preprocess.types import Soft
from pretrained_configs import catalog
from pretrained_configs.catalog import PublishedModel
from tasks.core.discovery import get_task, task_names
from tasks.core.prediction import DecodeOptions
from tasks.core.task import Task, TaskOptions

Precision = Literal["fp32", "bf16", "fp16"]


class Stride(NamedTuple):
    """How windows follow each other: one starts `tokens` after the other ("doc_stride"), or shares them."""

    name: Literal["doc_stride", "doc_overlap"]
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How text becomes windows, and windows become answers. What has a flag has its name and unit.

    Args:
        max_seq_length: tokens per window.
        max_query_length: tokens of a question; the rest is cut off.
        stride: from one window to the next.
        max_answer_length: tokens of the longest answer.
        n_best_size: positions considered per window, and answers listed per question.
        null_score_diff_threshold: where "unanswerable" may be no more ahead of the best span.
        precision: of the computation; weights are float32.
        per_device_eval_batch_size: windows per batch.
    """

    max_seq_length: int
    max_query_length: int
    stride: Stride
    max_answer_length: int
    n_best_size: int
    null_score_diff_threshold: float
    precision: Precision
    per_device_eval_batch_size: int

    @property
    def windows(self) -> dict[str, int]:
        """What `preprocess.windows.encode` is told of windows."""
        return {
            "max_seq_length": self.max_seq_length,
            self.stride.name: self.stride.tokens,
            "max_query_length": self.max_query_length,
        }

    @property
    def decode(self) -> DecodeOptions:
        """How answers are searched; no window holds more positions, or a longer answer, than it has tokens."""
        return DecodeOptions(
            n_best_size=min(self.n_best_size, self.max_seq_length),
            max_answer_length=min(self.max_answer_length, self.max_seq_length),
            null_score_diff_threshold=self.null_score_diff_threshold,
        )


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe(Recipe, Methods):
    """And how parameters move, and by which methods.

    Args:
        learning_rate: the highest.
        warmup_ratio: share of all steps with a rising rate.
        weight_decay: decoupled.
        optim: the optimizer.
        adam_beta1: of it.
        adam_beta2: of it.
        adam_epsilon: of it.
        max_grad_norm: to which the global gradient norm is clipped.
    """

    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    optim: Optim
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float


@dataclass(frozen=True, kw_only=True)
class StepRecipe(OptimizerRecipe):
    """And how often, on how much, and how a step is computed.

    Args:
        num_train_epochs: passes over the training data.
        per_device_train_batch_size: windows per forward pass and device.
        gradient_accumulation_steps: forward passes per step.
        seeds: of one model each.
        eval_epochs: between two evaluations.
        group_by_length: whether a batch holds windows of like length.
        gradient_checkpointing: first layers that are computed again in backward.
        tf32: whether GPUs may round the factors of float32 products to it.
        sampling: how often each of several tasks has its turn.
    """

    num_train_epochs: float
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    seeds: tuple[int, ...]
    eval_epochs: float
    group_by_length: bool
    gradient_checkpointing: int
    tf32: bool
    sampling: Sampling = PROPORTIONAL


@dataclass(frozen=True, kw_only=True)
class TrainRecipe(StepRecipe):
    """And where it runs, what it leaves, and when it is saved.

    Args:
        framework: the backend.
        tunes_threshold: whether null_score_diff_threshold is tuned on dev, if the task can.
        output_dir: the run directory.
        overwrite_output_dir: whether an older run in it is deleted.
        logging_steps: per line of the log.
        profile: whether a profiler looks on.
        save_steps: per training checkpoint; 0 for none.
        saves_by_time: whether they are made after evaluations and every 10 minutes instead.
        save_total_limit: training checkpoints that are kept.
        early_stopping_patience: evaluations in a row without a better one that end the training; 0 for none.
        loss_scale: of float16: a number that stays, or "dynamic".
        max_nonfinite_steps: in a row that stop the training.
        report_to: names of trackers, some of them in lists with commas.
        auto_find_batch_size: whether forward passes are halved where memory runs out.
        torch_compile: whether PyTorch compiles the layers.
        fsdp: whether PyTorch's processes share the parameters.
        jit_compile: whether XLA compiles TensorFlow's step; None for what that backend knows alone, whether its
            device is a GPU.
        teacher: names of fine-tuned models to learn from.
        distill_weight: share of their loss in the whole.
        distill_temperature: what their logits and the student's are divided by.
        distill_hidden: weight of the distance of the hidden states of teacher and student; 0 for none.
        config: every option as config.yaml and Records hold it, by the flag's name: YAML- and JSON-able.
    """

    framework: Framework
    tunes_threshold: bool
    output_dir: Path
    overwrite_output_dir: bool
    logging_steps: int
    profile: bool
    save_steps: int
    saves_by_time: bool
    save_total_limit: int
    early_stopping_patience: int
    loss_scale: float | Literal["dynamic"]
    max_nonfinite_steps: int
    report_to: tuple[str, ...]
    auto_find_batch_size: bool
    torch_compile: bool
    fsdp: bool
    jit_compile: bool | None
    teacher: tuple[str, ...]
    distill_weight: float
    distill_temperature: float
    distill_hidden: float
    config: Mapping[str, Any]

    @property
    def soft(self) -> Soft | None:
        """How soft targets are learned from; None without a teacher."""
        return Soft(self.distill_weight, self.distill_temperature) if self.teacher else None


#: What a command without teachers has for its options.
_UNTAUGHT = {field.name: field.default for field in fields(DistillationOptions)}
Filled = TypeVar("Filled", bound="Options | StatsOptions")
Options = PredictOptions | ParityOptions | PlanOptions | TrainOptions | PretrainOptions
_RECIPES: dict[type, type[Recipe]] = {
    PredictOptions: Recipe,
    ParityOptions: OptimizerRecipe,
    PlanOptions: StepRecipe,
    TrainOptions: TrainRecipe,
    PretrainOptions: TrainRecipe,
}


@overload
def resolve_recipe(
    options: TrainOptions | PretrainOptions, task: Task, published: PublishedModel | None
) -> TrainRecipe: ...
@overload
def resolve_recipe(options: PlanOptions, task: Task, published: PublishedModel | None) -> StepRecipe: ...
@overload
def resolve_recipe(options: ParityOptions, task: Task, published: PublishedModel | None) -> OptimizerRecipe: ...
@overload
def resolve_recipe(options: PredictOptions, task: Task, published: PublishedModel | None) -> Recipe: ...
def resolve_recipe(options: Options, task: Task, published: PublishedModel | None) -> Recipe:
    """Turn what was typed into the recipe of the command.

    Args:
        options: None where left out.
        task: its defaults come last.
        published: its recipe for the task goes before the task's defaults.

    Raises:
        UsageError: if options contradict each other, or can't be meant.
    """
    check_ranges(options)  # also of those that nobody typed
    published_recipe = published.recipes.get(task.name, {}) if published is not None else {}
    if options.bf16 and options.fp16:
        raise UsageError("--bf16 and --fp16 both given: use one")
    recipe = {**task.defaults, **published_recipe}
    if isinstance(options, ParityOptions | PlanOptions | TrainOptions | PretrainOptions):
        check_together(options)
        recipe = {"adam_epsilon": ADAM_EPSILON[options.optim], **recipe}
    if isinstance(options, TrainOptions | PretrainOptions) and not options.fp16:
        if options.loss_scale not in (None, "dynamic"):
            raise UsageError(f"--loss_scale {options.loss_scale} needs --fp16: nothing else scales the loss")
        recipe = {**recipe, "loss_scale": "dynamic"}
    whole = filled(options, {"loss_scale": "dynamic", **recipe})
    # What a command has no flag for is the task's.
    values: dict[str, Any] = {
        **_UNTAUGHT,
        **recipe,
        **{option.name: getattr(whole, option.name) for option in fields(whole)},
    }
    threshold = values.get("null_score_diff_threshold")
    values |= {
        "stride": stride_of(values),
        "precision": precision_of(whole),
        "null_score_diff_threshold": 0.0 if threshold is None else threshold,
        "tunes_threshold": threshold is None,
        "config": to_plain(whole),
    }
    if isinstance(whole, TrainOptions | PretrainOptions):
        values |= {"save_steps": whole.save_steps or 0, "saves_by_time": whole.save_steps is None}
        scale = whole.loss_scale
        values["loss_scale"] = "dynamic" if scale is None or scale == "dynamic" else float(scale)
    kind = _RECIPES[type(options)]
    return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})


def filled(options: Filled, recipe: Mapping[str, Any]) -> Filled:
    """Return options with what was left out taken from a recipe.

    Raises:
        UsageError: if the stride is given in both ways.
    """
    recipe = dict(recipe)
    names = {field.name for field in fields(options)}
    given = [name for name in ("doc_stride", "doc_overlap") if name in names and getattr(options, name) is not None]
    if len(given) == 2:
        raise UsageError("--doc_stride and --doc_overlap both given: they are two ways to say one thing, use one")
    for name in given:
        recipe.pop("doc_overlap" if name == "doc_stride" else "doc_stride", None)
    return replace(options, **{k: v for k, v in recipe.items() if k in names and getattr(options, k) is None})


def precision_of(options: PrecisionOptions) -> Precision:
    """Return the precision that two switches stand for."""
    return "bf16" if options.bf16 else "fp16" if options.fp16 else "fp32"


def stride_of(values: Mapping[str, Any]) -> Stride:
    """Return how windows follow each other, given options by name in which nothing was left out."""
    if values.get("doc_overlap") is not None:
        return Stride("doc_overlap", values["doc_overlap"])
    return Stride("doc_stride", values["doc_stride"])


def to_plain(options: Any) -> dict[str, Any]:
    """Return options as YAML- and JSON-able values."""
    return {field.name: plain_value(getattr(options, field.name)) for field in fields(options)}


def plain_value(value: Any) -> Any:
    """Return a value of an option as YAML and JSON have it."""
    if isinstance(value, Mapping):
        return {name: plain_value(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [plain_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def recipe_defaults(task_name: str, model_name: str | None) -> dict[str, Default]:
    """Return what `--help` shows for options that a recipe gives; nothing for a task that does not exist."""
    if task_name not in task_names():
        return {}
    defaults = {name: Default(value, f"{task_name}'s") for name, value in get_task(task_name).defaults.items()}
    published = catalog.find(model_name) if model_name is not None else None
    values = published.recipes.get(task_name, {}) if published is not None else {}
    return defaults | {name: Default(value, f"published for {model_name}") for name, value in values.items()}


def task_of(options: TaskChoice) -> Task:
    """Return the task with the user's choices made."""
    choices = {field.name: getattr(options, field.name) for field in fields(TaskOptions)}
    return get_task(task_name(options), TaskOptions(**choices))
