"""What a checkpoint is, what its files load into, and what its layers output."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.tree import Tree

from experiment.backend import Backend, choose_device, load_backend
from experiment.inputs.tokenizer import describe_tokenizer
from experiment.io.outputs import check_file
from experiment.io.terminal import terminal
from experiment.options.flags import InspectOptions
from experiment.training.finished import read_finetuned
from preprocess.base.errors import UsageError
from preprocess.base.files import replacing
from pretrained_configs.checkpoint import Checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.reader import checksum
from pretrained_configs.locate import locate
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import read_config, spare
from pretrained_configs.report import LoadReport, fold
from pretrained_configs.sanity import suspicions

#: Input -> the names that it may have in a file: ours, and those of the TensorFlow programs.
_INPUTS = {
    "input_ids": ("input_ids",),
    "attention_mask": ("attention_mask", "input_mask"),
    "token_type_ids": ("token_type_ids", "segment_ids"),
}


def inspect(options: InspectOptions) -> None:
    """Print architecture, load report and what looks wrong; with inputs, write hidden states.

    Raises:
        UsageError, CheckpointError: for options and files that can't be used.
    """
    if options.output is not None and options.inputs is None:
        raise UsageError("--output needs --inputs")
    check_file("--output", options.output)
    name = options.model_name_or_path
    if (name is None) == (options.config_name is None):
        raise UsageError("give either --model_name_or_path or --config_name")
    console = terminal()
    checkpoint = read_finetuned(name, options.hidden_act) if name is not None else None
    if checkpoint is not None:
        config, directory = checkpoint.config, checkpoint.directory
    else:
        place = locate(str(options.config_name), weights=False)
        config, directory = read_config(place.path, options.hidden_act), place.directory
    arrays = _read_inputs(options.inputs, config) if options.inputs is not None else None
    backend = load_backend(options.framework)
    device = choose_device(backend, options.device)
    _print_architecture(console, config)
    if checkpoint is None:
        model = backend.build_model(config, None, device=device, seed=options.seed)
        fresh = ["every parameter (no checkpoint)"]
    else:
        _print_files(console, checkpoint)
        model, report = backend.load_model(checkpoint, None, device=device, fresh_head=True, seed=options.seed)
        fresh = report.fresh
        console.print("\n".join(report.lines()))
        _print_suspicions(console, checkpoint, report)
    for line in describe_tokenizer(directory, None, config):
        console.print(line, style="yellow" if line.startswith("WARNING") else None)
    if arrays is not None:
        _compute(console, backend, model, arrays, fresh, options.output)


def _print_architecture(console: Console, config: ModelConfig) -> None:
    shapes = parameter_shapes(config, pooled=True)
    for field in fields(config):
        console.print(f"{field.name:<30}{getattr(config, field.name)}")
    count = sum(math.prod(shape) for shape in shapes.values())
    console.print(f"{'parameters':<30}{count:,} in {len(shapes)} tensors")
    tree = Tree(config.model_type)
    branches: dict[tuple[str, ...], Tree] = {(): tree}
    for line in fold(f"{name} {list(shape)}" for name, shape in shapes.items()):
        name, _, shape = line.partition(" ")
        *modules, leaf = name.split(".") if "{" not in name else _split_folded(name)
        for depth in range(1, len(modules) + 1):
            path = tuple(modules[:depth])
            if path not in branches:
                branches[path] = branches[path[:-1]].add(modules[depth - 1])
        branches[tuple(modules)].add(f"{leaf} {shape}")
    console.print(tree)


def _split_folded(name: str) -> list[str]:
    """Split "layers.{0..11}.ffn.up.bias" at its dots, apart from those within braces."""
    before, _, rest = name.partition("{")
    numbers, _, after = rest.partition("}")
    return [*before.rstrip(".").split("."), f"{{{numbers}}}", *after.lstrip(".").split(".")]


def _print_files(console: Console, checkpoint: Checkpoint) -> None:
    for path in checkpoint.files.weights:
        console.print(f"{'weights':<30}{path}")
    console.print(f"{'sha256':<30}{checksum(checkpoint.files)}")
    console.print(f"{'format':<30}{checkpoint.namemap.name}: {checkpoint.namemap.values['description']}")
    gelu = checkpoint.namemap.values["config"]["hidden_act"]["gelu"]
    console.print(f'{"":<30}the "gelu" of its configurations is {gelu}; computed with {checkpoint.config.hidden_act}')


def _print_suspicions(console: Console, checkpoint: Checkpoint, report: LoadReport) -> None:
    wanted = {ours: shape for ours, _, shape, _ in report.mapped}
    with checkpoint.open() as source:
        _, tensors = checkpoint.namemap.stream(
            source, wanted, may_be_fresh=(), spare=("*", *spare(checkpoint.config))
        )
        limit = checkpoint.published.max_seq_length if checkpoint.published is not None else None
        for suspicion in suspicions(checkpoint.config, tensors, limit):
            console.print(f"WARNING  {suspicion}", style="yellow")


def _compute(
    console: Console,
    backend: Backend,
    model: Any,
    arrays: dict[str, NDArray[Any]],
    fresh: list[str],
    output: Path | None,
) -> None:
    """Compute every layer's output, write it, and compare it with what stands beside the inputs."""
    outputs = backend.hidden_states(model, *(arrays[name] for name in _INPUTS))
    if any(name.startswith("pooler.") for name in fresh):
        # A fresh pooler's output is noise: better none than one that looks real.
        del outputs["pooled_output"]
        console.print("pooled_output is left out: the checkpoint has no pooler")
    # transformers calls the first layer's input hidden_state_0.
    expected = {name: arrays.get(name, arrays.get(name.replace("layer_", "hidden_state_"))) for name in outputs}
    for name, computed in outputs.items():
        other = expected[name]
        if other is None:
            continue
        if other.shape != computed.shape or not np.issubdtype(other.dtype, np.number):
            shapes = f"{other.dtype} {list(other.shape)} beside the inputs, {list(computed.shape)} computed"
            console.print(f"{name:<20}not compared: {shapes}", style="yellow")
        else:
            difference = float(np.abs(computed - other).max())
            console.print(f"{name:<20}max abs difference {difference:.2e} from the one beside the inputs")
    if output is not None:
        with replacing(output) as file:
            np.savez(file, **outputs)  # type: ignore[arg-type]
        console.print(f"{len(outputs)} arrays written to {output}")


def _read_inputs(path: Path, config: ModelConfig) -> dict[str, NDArray[Any]]:
    """Return the inputs under our names, and whatever else the file holds."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UsageError(f"--inputs {path}: no such file") from None
    except (ValueError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"--inputs {path}: not an .npz file ({error})") from None
    named = {ours: next((name for name in names if name in arrays), None) for ours, names in _INPUTS.items()}
    missing = [ours for ours, name in named.items() if name is None]
    if missing:
        raise UsageError(f"--inputs {path}: lacks {', '.join(missing)} (it holds {', '.join(arrays) or 'nothing'})")
    arrays |= {ours: arrays[name] for ours, name in named.items() if name is not None}
    inputs = [arrays[name] for name in _INPUTS]
    shape = inputs[0].shape
    alike = all(x.shape == shape and np.issubdtype(x.dtype, np.integer) for x in inputs)
    if len(shape) != 2 or 0 in shape or not alike:
        shapes = ", ".join(f"{name} {arrays[name].dtype} {list(arrays[name].shape)}" for name in _INPUTS)
        raise UsageError(
            f"--inputs {path}: three integer arrays of one shape [B, S], both at least 1, were expected, found "
            f"{shapes}"
        )
    _check_range(path, inputs, config)
    return arrays


def _check_range(path: Path, arrays: list[NDArray[np.integer]], config: ModelConfig) -> None:
    ids, mask, types = arrays
    # Without a table there are as many segments as anyone likes to tell apart.
    n_types = config.type_vocab_size if config.family.has_token_type_table else np.iinfo(np.int32).max
    limits = (
        (ids, config.vocab_size, "input_ids"),
        (mask, 2, "attention_mask"),
        (types, n_types, "token_type_ids"),
    )
    for array, limit, name in limits:
        if not 0 <= array.min() <= array.max() < limit:
            raise UsageError(f"--inputs {path}: {name} {array.min()}..{array.max()} is not within 0..{limit - 1}")
    if ids.shape[1] > (limit := config.family.usable_length(config)):
        first = config.family.first_position(config)
        rows = f"max_position_embeddings{f' - {first}' if first else ''}"
        raise UsageError(f"--inputs {path}: {ids.shape[1]} positions > {rows} {limit}")
    if not mask.any(axis=1).all():
        raise UsageError(f"--inputs {path}: attention_mask has a row without a real token")
