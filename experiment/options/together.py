"""The recipes of several tasks -> the one by which their run trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from experiment.options.flags import PlanOptions, TrainOptions
from experiment.options.joint import BY_TASK, sampling_of
from experiment.options.recipe import Recipe, StepRecipe, TrainRecipe, plain_value, to_plain
from experiment.options.windows import WindowOptions

Steps = TypeVar("Steps", bound=StepRecipe)

#: What a run has once, however many tasks it has: all but windows and answers.
_ONCE = [f.name for f in fields(StepRecipe) if f.name not in {f.name for f in fields(Recipe)} | {"sampling"}]
_WINDOWS = {field.name for field in fields(WindowOptions)}


def together(typed: PlanOptions | TrainOptions, recipes: Mapping[str, Steps]) -> tuple[Steps, list[str]]:
    """Return the recipe by which a run trains: that of its only task; of several, what they have in common.

    How parameters move is as the first task has it. Windows and answers each task has in its own recipe.

    Args:
        typed: None where left out.
        recipes: of each task.

    Returns:
        the recipe, and a line for everything in which another task would have been trained otherwise.

    Raises:
        UsageError: for a way to sample that can't be meant.
    """
    first, *others = recipes
    recipe = replace(recipes[first], sampling=sampling_of(typed))
    lines = []
    for name in _ONCE:
        here = getattr(recipe, name)
        differing = [f"{task}'s {there}" for task in others if (there := getattr(recipes[task], name)) != here]
        if differing:
            lines.append(f"--{name} {here}, {first}'s, is for all tasks, not {' nor '.join(differing)}")
    if others and isinstance(recipe, TrainRecipe):
        own = {task: each.config for task, each in recipes.items() if isinstance(each, TrainRecipe)}
        recipe = replace(recipe, config={**_config(typed, own), **recipe.sampling.as_options()})
    return recipe, lines


def _config(typed: PlanOptions | TrainOptions, own: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the options of a run of several tasks; what each task has another default for is left out."""
    configs: Sequence[Mapping[str, Any]] = list(own.values())
    config = to_plain(typed)
    for name, value in config.items():
        if name in BY_TASK:
            files = {task: each[name] for task, each in own.items() if each[name] is not None}
            config[name] = plain_value(files) or None
        elif value is None and (name not in _WINDOWS or all(each[name] == configs[0][name] for each in configs)):
            config[name] = configs[0][name]
    return {**config, "task": ",".join(own)}
