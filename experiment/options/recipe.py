"""What was typed -> the recipe of a run."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

from experiment.options.flags import (
    ADAM_EPSILON,
    FeatureOptions,
    OptimizerOptions,
    TaskChoice,
)
from preprocess.base.errors import UsageError
from pretrained_configs.catalog import PublishedModel
from tasks.core.discovery import get_task
from tasks.core.prediction import DecodeOptions
from tasks.core.task import Task, TaskOptions

Options = TypeVar("Options", bound=FeatureOptions)


def resolve_recipe(options: Options, task: Task, published: PublishedModel | None) -> Options:
    """Fill the options that were left out.

    Args:
        options: None where left out.
        task: its defaults come last.
        published: its recipe for the task goes before the task's defaults.

    Raises:
        UsageError: if options contradict each other.
    """
    recipes = published.recipes if published is not None else {}
    own = ADAM_EPSILON[options.optim] if isinstance(options, OptimizerOptions) else None
    recipe = {"adam_epsilon": own, **task.defaults, **recipes.get(task.name, {})}
    names = {f.name for f in fields(options)}
    missing = {k: v for k, v in recipe.items() if k in names and getattr(options, k) is None}
    if options.doc_overlap is not None:
        if options.doc_stride is not None:
            raise UsageError("--doc_stride and --doc_overlap both given: they are two ways to say one thing, use one")
        missing.pop("doc_stride", None)
    elif options.doc_stride is not None:
        missing.pop("doc_overlap", None)
    if options.bf16 and options.fp16:
        raise UsageError("--bf16 and --fp16 both given: use one")
    return replace(options, **missing)


def precision_of(options: FeatureOptions) -> str:
    """Return "bf16", "fp16" or "fp32"."""
    return "bf16" if options.bf16 else "fp16" if options.fp16 else "fp32"


def decode_options(options: FeatureOptions) -> DecodeOptions:
    """Return the decoding part of resolved options."""
    assert options.n_best_size is not None and options.max_answer_length is not None
    threshold = 0.0 if options.null_score_diff_threshold is None else options.null_score_diff_threshold
    longest = options.max_seq_length or options.max_answer_length
    # No window holds more positions, or a longer answer, than it has tokens.
    return DecodeOptions(min(options.n_best_size, longest), min(options.max_answer_length, longest), threshold)


def task_of(options: TaskChoice) -> Task:
    """Return the task with the user's choices made."""
    name = "squad_v2" if options.task == "squad" and options.version_2_with_negative else options.task
    return get_task(name, TaskOptions(**{f.name: getattr(options, f.name) for f in fields(TaskOptions)}))
