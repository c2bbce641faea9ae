"""Weights in and out of a model, through the name maps."""

from __future__ import annotations

from pathlib import Path

import torch

from preprocess.types import HeadSpec
from pretrained_configs.checkpoint import Checkpoint
from pretrained_configs.published import saved_format
from pretrained_configs.report import LoadReport
from pretrained_configs.writer import write_checkpoint
from pytorch_modeling.distribute import fill, whole
from pytorch_modeling.model import MRCModel, draw_fresh, outline, parameter_name


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
    parameters = {parameter_name(name): parameter for name, parameter in model.named_parameters()}
    with checkpoint.stream(parameter_shapes(model), fresh_head=fresh_head) as (report, tensors), torch.no_grad():
        for name, array in tensors:
            fill(parameters[name], torch.from_numpy(array))
    return report


def load_model(
    checkpoint: Checkpoint, head: HeadSpec | None, *, device: str, fresh_head: bool, seed: int = 0
) -> tuple[MRCModel, LoadReport]:
    """Build a model with a checkpoint's weights, which are neither drawn before nor, where possible, copied.

    Args:
        checkpoint: what to load, and the architecture.
        head: what the task needs; None for the bare encoder with its pooler.
        device: one of `devices()`.
        fresh_head: as in `load_weights`.
        seed: seed of what the checkpoint lacks.

    Returns:
        the model, in evaluation mode; and what was mapped, left fresh and ignored.

    Raises:
        CheckpointError: as `load_weights`.
    """
    model = outline(checkpoint.config, head)
    paths = {parameter_name(path): path for path, _ in model.named_parameters()}
    with checkpoint.stream(parameter_shapes(model), fresh_head=fresh_head) as (report, tensors):
        state = {paths[name]: torch.from_numpy(array) for name, array in tensors}
    model.load_state_dict(state, strict=False, assign=True)
    draw_fresh(model, report.fresh, seed)
    return model.to(device).eval(), report


def check_weights(checkpoint: Checkpoint, head: HeadSpec | None, *, fresh_head: bool) -> LoadReport:
    """Say what `load_model` would do, without memory for the model and without reading a tensor.

    Raises:
        CheckpointError: as `load_weights`.
    """
    return checkpoint.check(parameter_shapes(outline(checkpoint.config, head)), fresh_head=fresh_head)


def parameter_shapes(model: MRCModel) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its framework-neutral name."""
    return {parameter_name(name): tuple(parameter.shape) for name, parameter in model.named_parameters()}


def save_weights(model: MRCModel, directory: Path | None) -> None:
    """Write config.json and model.safetensors, as transformers' from_pretrained reads them where it has such a model.

    Args:
        model: its weights are written in float32. All processes that have parts of them have to call this.
        directory: must exist; the weights file is replaced atomically. None in processes that write nothing.
    """
    ours = {parameter_name(name): whole(p.detach()).float().cpu().numpy() for name, p in model.named_parameters()}
    if directory is None:
        return
    write_checkpoint(directory, model.config, ours, saved_format(model.config))
