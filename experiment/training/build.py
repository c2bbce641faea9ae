"""A seed's model and trainer, as its first step finds them."""

from __future__ import annotations

import dataclasses
from typing import Any

from experiment.backend import Trainer
from experiment.options.recipe import TrainRecipe
from experiment.training.setup import RunSetup
from preprocess.base.spec import TrainerSpec
from preprocess.batch import eval_batches


def trainer_spec(recipe: TrainRecipe, n_steps: int = 0, seed: int = 0) -> TrainerSpec:
    """Return what a trainer is asked for.

    Args:
        recipe: of the run.
        n_steps: of the schedule; whether a framework can do what is asked for does not depend on it, nor on the next.
        seed: of what methods draw.
    """
    names = {field.name for field in dataclasses.fields(TrainerSpec)} - {"n_steps", "seed", "teacher_width"}
    return TrainerSpec(n_steps=n_steps, seed=seed, **{name: getattr(recipe, name) for name in names})


def build(setup: RunSetup, seed: int, n_steps: int, *, loads: bool) -> tuple[Any, Trainer, list[str]]:
    """Build a seed's model and its trainer, and seed all generators.

    Args:
        setup: what all seeds share.
        seed: of weights and dropout.
        n_steps: of the schedule.
        loads: whether the weights of the checkpoint are read; if not they will be restored.

    Returns:
        the model, its trainer, and lines on what was loaded.
    """
    backend, source = setup.backend, setup.source
    head = dataclasses.replace(setup.head.spec, soft=setup.options.soft)
    backend.set_seed(seed)
    lines: list[str] = []
    if loads and source.checkpoint is not None:
        model, report = backend.load_model(source.checkpoint, head, device=setup.device, fresh_head=True, seed=seed)
        lines = report.lines()
    else:
        model = backend.build_model(source.config, head, device=setup.device, seed=seed)
    teacher = setup.sources[0].teacher
    spec = trainer_spec(setup.options, n_steps, seed)
    if teacher is not None:
        spec = dataclasses.replace(spec, teacher_width=teacher.width)
    return model, backend.Trainer(model, spec), lines


def rehearse(setup: RunSetup) -> None:
    """Build the first seed's model and trainer, and let the model compute its longest windows.

    What is to be deleted for a new run is deleted when that is known to be possible.

    Raises:
        whatever building or computing raises; nothing is kept.
    """
    model, _, _ = build(setup, setup.options.seeds[0], 1, loads=True)
    for source in setup.sources:
        longest = eval_batches(source.data.features, setup.options.per_device_eval_batch_size)[-1]
        batches = iter([source.batch(longest)])
        for _ in setup.backend.predict(model, batches, precision=setup.options.precision):
            pass
