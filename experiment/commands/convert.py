"""A checkpoint of one format, written in another."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fnmatch import fnmatch

import numpy as np

from experiment.inputs.settings import FILE_NAME
from experiment.inputs.tokenizer import describe_tokenizer
from experiment.io.outputs import check_new_directory
from experiment.options.flags import ConvertOptions
from experiment.training.finished import read_finetuned
from preprocess.base.errors import CheckpointError
from preprocess.base.files import new_directory
from pretrained_configs.config import ModelConfig
from pretrained_configs.namemap import NameMap
from pretrained_configs.published import deviations, format_for
from pretrained_configs.writer import write_checkpoint

#: What belongs to a model beside weights and configuration, and goes along as it is; Google's ALBERT has a
#: vocab_chinese.txt.
_VOCABULARIES = "*vocab*.txt"
_COMPANIONS = (
    *(
        _VOCABULARIES,
        "*.model",
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ),
    FILE_NAME,
)
#: Targets whose programs know no other tokenizer.
_READ_VOCABULARIES = ("tf1", "reference")


def convert(options: ConvertOptions) -> None:
    """Write a checkpoint in another format and say what became of every tensor.

    Raises:
        UsageError, CheckpointError: for an output that is taken, and models that the target has no place for.
    """
    check_new_directory("--output", options.output)
    checkpoint = read_finetuned(options.source, options.hidden_act)
    with checkpoint.stream(checkpoint.held(), fresh_head=False) as (report, tensors):
        ours = dict(tensors)
    config, namemap = _placed(checkpoint.config, ours, options.to)
    with new_directory(options.output) as directory:
        files = write_checkpoint(directory, config, ours, namemap)
        for companion in (path for name in _COMPANIONS for path in sorted(checkpoint.directory.glob(name))):
            files.append(directory / companion.name)
            shutil.copyfile(companion, directory / companion.name)
    print("\n".join(report.lines()))
    print(f"written as {namemap.name} to {options.output}: {', '.join(file.name for file in files)}")
    notes = [*_detours(checkpoint.namemap, namemap, options.to), *deviations(config, namemap)]
    if options.to in _READ_VOCABULARIES and not any(fnmatch(file.name, _VOCABULARIES) for file in files):
        notes.append(f"programs for {namemap.name} read a vocab.txt with WordPiece's pieces; this model has none")
    for line in notes:
        print(f"note: {line}")
    for line in describe_tokenizer(checkpoint.directory, None, config):
        if line.startswith("WARNING"):
            print(line)


def _detours(source: NameMap, target: NameMap, to: str) -> list[str]:
    """Say so where a model is written under another kind's names, as ERNIE is under BERT's."""
    if "target" in source.values["config"] or to == "native":
        return []
    written = f"{target.name} ({target.values['description']})"
    return [f"{to} has no form of its own for {source.name}; what it computes is written as {written}"]


def _placed(config: ModelConfig, ours: dict[str, np.ndarray], target: str) -> tuple[ModelConfig, NameMap]:
    """Find the target's format.

    Where embeddings are as wide as layers, some programs project them all the same and some never do: the identity is
    put in or taken out, which changes no bit of what is computed.
    """
    try:
        return config, format_for(config, target)
    except CheckpointError as error:
        swapped = _swapped_identity(config, ours)
        if swapped is None:
            raise
        try:
            namemap = format_for(swapped[0], target)
        except CheckpointError:
            raise error from None
    for name in ("projection.weight", "projection.bias"):
        ours.pop(name, None)
    ours.update(swapped[1])
    return swapped[0], namemap


def _swapped_identity(
    config: ModelConfig, ours: dict[str, np.ndarray]
) -> tuple[ModelConfig, dict[str, np.ndarray]] | None:
    """Return the same model with an identity projection if it has none, without if it has one; else None."""
    if config.embedding_size != config.hidden_size or config.embedding_projection == "word":
        return None
    identity = np.eye(config.hidden_size, dtype=np.float32)
    if config.embedding_projection == "none":
        projection = {"projection.weight": identity, "projection.bias": np.zeros(config.hidden_size, np.float32)}
        try:
            return replace(config, embedding_projection="output"), projection
        except CheckpointError:  # a family that projects no embeddings
            return None
    if np.array_equal(ours["projection.weight"], identity) and not ours["projection.bias"].any():
        return replace(config, embedding_projection="none"), {}
    return None
