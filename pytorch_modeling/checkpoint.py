"""Weights in and out of a model, through the name maps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from preprocess.types import HeadSpec
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.reader import open_tensors, write_safetensors
from pretrained_configs.namemap import MAY_BE_FRESH, LoadReport
from pretrained_configs.published import read_checkpoint, saved_format, spare, write_values
from pytorch_modeling.distribute import fill, whole
from pytorch_modeling.model import MRCModel, draw_fresh, outline, parameter_name


def load_weights(model: MRCModel, name_or_path: str, *, fresh_head: bool) -> LoadReport:
    """Load a checkpoint into the model, in place.

    Args:
        model: keeps its own values where the checkpoint has none and may have none.
        name_or_path: directory, weights file, TensorFlow prefix, hub id or short name.
        fresh_head: whether the task's head (and a pooler) may be missing from the checkpoint: yes before fine-tuning,
            no before prediction.

    Returns:
        what was mapped, left fresh and ignored.

    Raises:
        CheckpointError: if a source tensor is unaccounted for, or a parameter can't be filled.
    """
    parameters = {parameter_name(name): parameter for name, parameter in model.named_parameters()}
    with _opened(model, name_or_path, fresh_head) as (report, tensors), torch.no_grad():
        for name, array in tensors:
            fill(parameters[name], torch.from_numpy(array))
    return report


@contextmanager
def _opened(
    model: MRCModel, name_or_path: str, fresh_head: bool
) -> Iterator[tuple[LoadReport, Iterator[tuple[str, NDArray[np.float32]]]]]:
    checkpoint = read_checkpoint(name_or_path, model.config.hidden_act)
    with open_tensors(checkpoint.files) as source:
        yield checkpoint.namemap.stream(
            source, parameter_shapes(model), may_be_fresh=_may_be_fresh(fresh_head), spare=spare(model.config)
        )


def load_model(
    config: ModelConfig, head: HeadSpec | None, name_or_path: str, *, device: str, fresh_head: bool, seed: int = 0
) -> tuple[MRCModel, LoadReport]:
    """Build a model with a checkpoint's weights, which are neither drawn before nor, where possible, copied.

    Args:
        config: the checkpoint's architecture.
        head: what the task needs; None for the bare encoder with its pooler.
        name_or_path: as in `load_weights`.
        device: one of `devices()`.
        fresh_head: as in `load_weights`.
        seed: seed of what the checkpoint lacks.

    Returns:
        the model, in evaluation mode; and what was mapped, left fresh and ignored.

    Raises:
        CheckpointError: as `load_weights`.
    """
    model = outline(config, head)
    paths = {parameter_name(path): path for path, _ in model.named_parameters()}
    with _opened(model, name_or_path, fresh_head) as (report, tensors):
        state = {paths[name]: torch.from_numpy(array) for name, array in tensors}
    model.load_state_dict(state, strict=False, assign=True)
    draw_fresh(model, report.fresh, seed)
    return model.to(device).eval(), report


def check_weights(config: ModelConfig, head: HeadSpec | None, name_or_path: str, *, fresh_head: bool) -> LoadReport:
    """Say what `load_weights` would do, without memory for the model and without reading a tensor.

    Raises:
        CheckpointError: as `load_weights`.
    """
    shapes = parameter_shapes(outline(config, head))
    checkpoint = read_checkpoint(name_or_path, config.hidden_act)
    with open_tensors(checkpoint.files) as source:
        report = checkpoint.namemap.report(
            source, shapes, may_be_fresh=_may_be_fresh(fresh_head), spare=spare(config)
        )
        report.check()
    return report


def _may_be_fresh(fresh_head: bool) -> tuple[str, ...]:
    return MAY_BE_FRESH if fresh_head else ()


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
    namemap = saved_format(model.config)
    write_safetensors(directory / "model.safetensors", namemap.to_theirs(ours))
    values = write_values(model.config, namemap, "span" if "head.span.weight" in ours else None)
    (directory / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
