"""Which of a checkpoint's heads a model takes over: its own, that of another task if so asked, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from experiment.inputs.settings import Settings, read_settings
from preprocess.base.errors import UsageError
from pretrained_configs.checkpoint import Checkpoint
from tasks.core.joint import SharedHead, shared_name


def answering_head(checkpoint: Checkpoint, settings: Settings | None) -> Checkpoint:
    """Return a checkpoint as one task's model reads it: of one for several tasks that task's own head.

    Args:
        checkpoint: fine-tuned.
        settings: of it, for this task.
    """
    if settings is None or settings.task not in settings.joint:
        return checkpoint
    return replace(checkpoint, filled_by=_donors(checkpoint.heads(), settings)[settings.task])


def own_heads(checkpoint: Checkpoint, task: str) -> Checkpoint:
    """Return a checkpoint as a task's model reads it if it was fine-tuned for this among several, else as it is."""
    return answering_head(checkpoint, read_settings(checkpoint.directory, task))


def starting_heads(checkpoint: Checkpoint, head: SharedHead, keep_head: bool, name: str) -> Checkpoint:
    """Return a checkpoint as training starts from it.

    A head goes on with the task that it has been trained for. Those of other tasks are left out, unless the user
    wants to keep what fits. Of a checkpoint that does not say what its head is for, a model of one task takes the
    projections of its names.

    Args:
        checkpoint: to start from.
        head: of the model.
        keep_head: whether to keep what fits of another task's head.
        name: of the checkpoint, as the user gave it.

    Raises:
        UsageError: if nothing fits of what is to be kept.
    """
    settings = read_settings(checkpoint.directory)
    alone = next(iter(head.heads)) if len(head.heads) == 1 else None
    if not keep_head and alone is not None and (settings is None or settings.task == alone):
        return checkpoint
    held = checkpoint.heads()
    donors = _donors(held, settings)
    taken: dict[str, str] = {}
    for task, own in head.heads.items():
        asked = [task] if task in donors else list(donors) if keep_head else []
        fitting = (_fitting(held, donors[name], own.rows) for name in asked)
        best = next((found for found in fitting if found), {})
        taken |= {head.projections(task)[projection]: there for projection, there in best.items()}
    if keep_head and not taken:
        has = ", ".join(f"{projection} ({n})" for projection, n in held.items()) or "none"
        needs = ", ".join(f"{projection} ({n})" for projection, n in head.spec.rows.items())
        raise UsageError(
            f"--keep_head: nothing of the head of {name} fits: it has {has}, and {needs} is needed; leave it out"
        )
    return replace(checkpoint, filled_by=taken)


def _donors(held: Mapping[str, int], settings: Settings | None) -> dict[str, dict[str, str]]:
    """Return each task's projections by the task's own names -> what the checkpoint calls them."""
    if settings is None or not settings.joint:
        return {"" if settings is None else settings.task: {name: name for name in held}}
    prefixes = {task: shared_name(task, "") for task in settings.joint}
    return {
        task: {name.removeprefix(prefix): name for name in held if name.startswith(prefix)}
        for task, prefix in prefixes.items()
    }


def _fitting(held: Mapping[str, int], names: Mapping[str, str], rows: Mapping[str, int]) -> dict[str, str]:
    """Return those projections that are there with as many rows -> what they are called there."""
    return {name: names[name] for name, n in rows.items() if name in names and held[names[name]] == n}
