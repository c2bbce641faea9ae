"""Weights in and out of a model, through the name maps."""

from __future__ import annotations

from pathlib import Path

from preprocess.types import HeadSpec
from pretrained_configs.checkpoint import Checkpoint
from pretrained_configs.published import saved_format
from pretrained_configs.report import LoadReport
from pretrained_configs.writer import write_checkpoint
from tf_modeling.model import MRCModel, draw_fresh, outline, parameters, zero_model


def load_weights(model: MRCModel, checkpoint: Checkpoint, *, fresh_head: bool) -> LoadReport:
    """Load a checkpoint into the model, in place.

    Args:
        model: of the checkpoint's architecture; it keeps its own values where that has none and may have none.
        checkpoint: what to load.
        fresh_head: whether the task's head (and a pooler) may be missing from the checkpoint: yes before fine-tuning,
            no before prediction.

    Returns:
        what was mapped, left fresh and ignored.

    Raises:
        CheckpointError: if a source tensor is unaccounted for, or a parameter can't be filled.
    """
    ours = parameters(model)
    with checkpoint.stream(parameter_shapes(model), fresh_head=fresh_head) as (report, tensors):
        for name, array in tensors:
            ours[name].assign(array)
    return report


def load_model(
    checkpoint: Checkpoint, head: HeadSpec | None, *, device: str, fresh_head: bool, seed: int = 0
) -> tuple[MRCModel, LoadReport]:
    """Build a model with a checkpoint's weights, which are not drawn before.

    Args:
        checkpoint: what to load, and the architecture.
        head: what the task needs; None for the bare encoder with its pooler.
        device: one of `devices()`.
        fresh_head: as in `load_weights`.
        seed: seed of what the checkpoint lacks.

    Returns:
        the model; and what was mapped, left fresh and ignored.

    Raises:
        CheckpointError: as `load_weights`.
    """
    model = zero_model(checkpoint.config, head, device)
    report = load_weights(model, checkpoint, fresh_head=fresh_head)
    draw_fresh(model, report.fresh, seed)
    return model, report


def check_weights(checkpoint: Checkpoint, head: HeadSpec | None, *, fresh_head: bool) -> LoadReport:
    """Say what `load_model` would do, without memory for the model and without reading a tensor.

    Raises:
        CheckpointError: as `load_weights`.
    """
    shapes = parameter_shapes(outline(checkpoint.config, head))
    return checkpoint.check(shapes, fresh_head=fresh_head)


def parameter_shapes(model: MRCModel) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its framework-neutral name."""
    return {name: parameter.shape for name, parameter in parameters(model).items()}


def save_weights(model: MRCModel, directory: Path | None) -> None:
    """Write config.json and model.safetensors, as transformers' from_pretrained reads them where it has such a model.

    Args:
        model: its weights are written in float32.
        directory: must exist; the weights file is replaced atomically. None in processes that write nothing.
    """
    if directory is None:
        return
    ours = {name: parameter.neutral(parameter.variable.value) for name, parameter in parameters(model).items()}
    write_checkpoint(directory, model.config, ours, saved_format(model.config))
