"""What a checkpoint is, what its files load into, and what its layers output."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from experiment.backend import choose_device, load_backend
from experiment.config import InspectOptions, UsageError
from experiment.files import replacing
from pretrained_configs.config import ModelConfig, read_config
from pretrained_configs.locate import locate, resolve
from pretrained_configs.reader import checksum

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def inspect(options: InspectOptions) -> None:
    """Print architecture, parameter count and load report; with inputs, write hidden states.

    Raises:
        UsageError, CheckpointError: for options and files that can't be used.
    """
    if (options.inputs is None) != (options.output is None):
        raise UsageError("--inputs and --output belong together")
    checkpoint = options.model_name_or_path
    if (checkpoint is None) == (options.config_name is None):
        raise UsageError("give either --model_name_or_path or --config_name")
    console = Console(highlight=False, soft_wrap=True)
    local = resolve(checkpoint) if checkpoint is not None else None
    at = local.config if local is not None else locate(str(options.config_name), weights=False)
    config = read_config(at, hidden_act=options.hidden_act)
    inputs = _read_inputs(options.inputs, config) if options.inputs is not None else None
    backend = load_backend(options.framework)
    model = backend.build_model(config, None, device=choose_device(backend, options.device), seed=options.seed)
    shapes = backend.parameter_shapes(model)
    for field in fields(config):
        console.print(f"{field.name:<30}{getattr(config, field.name)}", markup=False)
    console.print(
        f"{'parameters':<30}{sum(math.prod(shape) for shape in shapes.values()):,} in {len(shapes)} tensors"
    )
    fresh: list[str] = ["every parameter (no checkpoint)"]
    if local is not None and checkpoint is not None:
        for path in local.weights:
            console.print(f"{'weights':<30}{path}", markup=False)
        console.print(f"{'sha256':<30}{checksum(local)}")
        report = backend.load_weights(model, checkpoint, fresh_head=True)
        console.print("\n".join(report.lines()), markup=False)
        fresh = report.fresh
    if inputs is not None:
        assert options.output is not None
        outputs = backend.hidden_states(model, *inputs)
        if any(name.startswith("pooler.") for name in fresh):
            # A fresh pooler's output is noise: better none than one that looks real.
            del outputs["pooled_output"]
            console.print("pooled_output is left out: the checkpoint has no pooler")
        with replacing(options.output) as file:
            np.savez(file, **outputs)  # type: ignore[arg-type]
        console.print(f"{len(outputs)} arrays written to {options.output}", markup=False)


def _read_inputs(path: Path, config: ModelConfig) -> list[NDArray[np.integer]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UsageError(f"--inputs {path}: no such file") from None
    except (ValueError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"--inputs {path}: no .npz file ({error})") from None
    missing = [name for name in _INPUTS if name not in arrays]
    if missing:
        raise UsageError(f"--inputs {path}: lacks {', '.join(missing)} (it holds {', '.join(arrays) or 'nothing'})")
    found = [arrays[name] for name in _INPUTS]
    if any(x.ndim != 2 or x.shape != found[0].shape or not np.issubdtype(x.dtype, np.integer) for x in found):
        shapes = ", ".join(f"{name} {arrays[name].dtype} {list(arrays[name].shape)}" for name in _INPUTS)
        raise UsageError(f"--inputs {path}: three integer arrays of one shape [B, S] were expected, found {shapes}")
    _check_range(path, found, config)
    return found


def _check_range(path: Path, arrays: list[NDArray[np.integer]], config: ModelConfig) -> None:
    ids, mask, types = arrays
    limits = (
        (ids, config.vocab_size, "input_ids"),
        (mask, 2, "attention_mask"),
        (types, config.type_vocab_size, "token_type_ids"),
    )
    for array, limit, name in limits:
        if array.size and not 0 <= array.min() <= array.max() < limit:
            raise UsageError(f"--inputs {path}: {name} {array.min()}..{array.max()} is not within 0..{limit - 1}")
    if ids.shape[1] > config.max_position_embeddings:
        raise UsageError(
            f"--inputs {path}: {ids.shape[1]} positions > max_position_embeddings {config.max_position_embeddings}"
        )
    if not mask.any(axis=1).all():
        raise UsageError(f"--inputs {path}: attention_mask has a row without a real token")
