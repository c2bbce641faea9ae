"""Weights in and out of a model, through the name maps."""

from __future__ import annotations

import json
from pathlib import Path

import keras

from preprocess.types import HeadSpec
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.reader import open_tensors, write_safetensors
from pretrained_configs.namemap import MAY_BE_FRESH, LoadReport
from pretrained_configs.published import read_checkpoint, saved_format, spare, write_values
from tf_modeling.model import MRCModel, draw_fresh, parameters, zero_model


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
    ours = parameters(model)
    checkpoint = read_checkpoint(name_or_path, model.config.hidden_act)
    with open_tensors(checkpoint.files) as source:
        report, tensors = checkpoint.namemap.stream(
            source, parameter_shapes(model), may_be_fresh=_may_be_fresh(fresh_head), spare=spare(model.config)
        )
        for name, array in tensors:
            ours[name].assign(array)
    return report


def load_model(
    config: ModelConfig, head: HeadSpec | None, name_or_path: str, *, device: str, fresh_head: bool, seed: int = 0
) -> tuple[MRCModel, LoadReport]:
    """Build a model with a checkpoint's weights, which are not drawn before.

    Args:
        config: the checkpoint's architecture.
        head: what the task needs; None for the bare encoder with its pooler.
        name_or_path: as in `load_weights`.
        device: one of `devices()`.
        fresh_head: as in `load_weights`.
        seed: seed of what the checkpoint lacks.

    Returns:
        the model; and what was mapped, left fresh and ignored.

    Raises:
        CheckpointError: as `load_weights`.
    """
    model = zero_model(config, head, device)
    report = load_weights(model, name_or_path, fresh_head=fresh_head)
    draw_fresh(model, report.fresh, seed)
    return model, report


def check_weights(config: ModelConfig, head: HeadSpec | None, name_or_path: str, *, fresh_head: bool) -> LoadReport:
    """Say what `load_weights` would do, without memory for the model and without reading a tensor.

    Raises:
        CheckpointError: as `load_weights`.
    """
    with keras.StatelessScope(initialize_variables=False):  # variables with a shape and without a value
        shapes = parameter_shapes(MRCModel(config, head))
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
    namemap = saved_format(model.config)
    write_safetensors(directory / "model.safetensors", namemap.to_theirs(ours))
    values = write_values(model.config, namemap, "span" if "head.span.weight" in ours else None)
    (directory / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
