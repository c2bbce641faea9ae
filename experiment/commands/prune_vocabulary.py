"""A checkpoint without the rows of the vocabulary that some texts never use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiment.inputs.data import encode, first_targets, read_examples
from experiment.inputs.model import ModelSource, from_checkpoint
from experiment.inputs.settings import FILE_NAME, read_settings, recall, write_several
from experiment.io.outputs import check_new_directory
from experiment.io.terminal import terminal, warn
from experiment.options.flags import PredictOptions
from experiment.options.recipe import Recipe, resolve_recipe, task_of
from experiment.options.smaller import PruneVocabularyOptions
from experiment.training.finished import read_finetuned
from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import new_directory, write_json
from preprocess.tokenizers.base import Tokenizer, load_tokenizer
from preprocess.types import Pieces
from pretrained_configs.checkpoint import Checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.published import saved_format
from pretrained_configs.writer import write_checkpoint
from tasks.core.task import Task


@dataclass
class _Listening:
    """A tokenizer that keeps the texts it is given.

    Args:
        tokenizer: that cuts them.
        texts: each once, in order of appearance.
    """

    tokenizer: Tokenizer
    texts: dict[str, None] = field(default_factory=dict)

    def encode(self, texts: Sequence[str]) -> Pieces:
        self.texts.update(dict.fromkeys(texts))
        return self.tokenizer.encode(texts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def prune_vocabulary(options: PruneVocabularyOptions) -> None:
    """Write the smaller checkpoint, and say how much smaller it is, and what is unknown to it.

    Raises:
        UsageError, DataError, CheckpointError: for an output that is taken, and files that can't be used; nothing is
            written.
    """
    check_new_directory("--output", options.output)
    checkpoint = read_finetuned(options.model_name_or_path, options.hidden_act, options.task)
    task, recipe, source = _prepared(options, checkpoint)
    warn(source.loaded_tokenizer.warnings)
    console, tokenizer = terminal(), source.tokenizer
    texts = _texts(task, recipe, source, options.data_files)
    kept = _kept(tokenizer, texts, source.config)
    config = _smaller(source.config, kept)
    with new_directory(options.output) as directory:
        tokenizer.restricted(kept).save(directory)
        smaller = load_tokenizer(directory)
        _prove(tokenizer, smaller, kept, texts)
        report, parameters = _parameters(checkpoint, config, kept)
        write_checkpoint(directory, config, parameters, saved_format(config))
        _write_settings(directory, checkpoint, smaller)
    console.print("\n".join(report.lines()))
    console.print(
        f"{options.output}: {config.vocab_size} of {source.config.vocab_size} rows, "
        f"{_millions(parameters.values()):.1f} of {_millions(checkpoint.held().values()):.1f} million parameters"
    )
    console.print(f"{len(texts)} texts of {len(options.data_files)} files are cut as before")
    if options.check is not None:
        other = _texts(task, recipe, source, (options.check,))
        console.print(f"{options.check}: {_compared(tokenizer, smaller, kept, other)}")


def _prepared(options: PruneVocabularyOptions, checkpoint: Checkpoint) -> tuple[Task, Recipe, ModelSource]:
    """Find out how the model reads texts of its task."""
    settings = read_settings(checkpoint.directory, options.task)
    known = settings.task if settings is not None and not (settings.joint and options.task is None) else None
    task = options.task or known
    if task is None:
        raise UsageError(
            f"{options.model_name_or_path}: does not say which task's layout the files have; give it with --task"
        )
    asked = PredictOptions(
        model_name_or_path=options.model_name_or_path,
        task=task,
        tokenizer_name=options.tokenizer_name,
        do_lower_case=options.do_lower_case,
        hidden_act=options.hidden_act,
    )
    asked, _ = recall(settings, asked)
    source = from_checkpoint(checkpoint, asked)
    chosen = task_of(asked)
    return chosen, resolve_recipe(asked, chosen, checkpoint.published), source


def _write_settings(directory: Path, checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    """Write what the checkpoint was fine-tuned with, if it was, with the tokenizer that it has now."""
    settings = read_settings(checkpoint.directory)
    if settings is None:
        return
    of_each = [read_settings(checkpoint.directory, name) or settings for name in settings.joint or (settings.task,)]
    about = {**tokenizer.options, "fingerprint": tokenizer.fingerprint}
    changed = [replace(each, tokenizer=about) for each in of_each]
    if settings.joint:
        write_several(directory, changed)
    else:
        write_json(directory / FILE_NAME, changed[0].as_json())


def _texts(task: Task, recipe: Recipe, source: ModelSource, files: Iterable[Path]) -> list[str]:
    """Return what the tokenizer is given for the questions of files, each text once.

    Raises:
        DataError: if a file can't be used, or none holds a question.
    """
    listening: Any = _Listening(source.tokenizer)
    for file in files:
        examples, report = read_examples(task, file)
        if not examples:
            raise DataError(f"{report.file}: holds no question; give a file with questions")
        encode(task, examples, first_targets(task, examples), listening, recipe, None, template=source.template)
    return list(listening.texts)


def _kept(tokenizer: Tokenizer, texts: list[str], config: ModelConfig) -> list[int]:
    """Return the ids that stay, rising."""
    needed = tokenizer.needed(texts)
    if config.family.first_position(config):
        # Positions are counted from the row of padding, which has to stay where it is.
        needed.update(range(config.pad_token_id))
    return sorted({*needed, config.pad_token_id})


def _smaller(config: ModelConfig, kept: list[int]) -> ModelConfig:
    return replace(config, vocab_size=len(kept), pad_token_id=kept.index(config.pad_token_id))


def _prove(before: Tokenizer, after: Tokenizer, kept: list[int], texts: list[str]) -> None:
    """Refuse a tokenizer, as it is read back, that cuts a text into other pieces.

    Raises:
        DataError: with the first such text.
    """
    if after.vocab_size != len(kept):
        raise DataError(f"the smaller vocabulary has {after.vocab_size} pieces, {len(kept)} were to stay")
    different = [text for text, same in zip(texts, _alike(before, after, kept, texts), strict=True) if not same]
    if different:
        raise DataError(
            f"{len(different)} of {len(texts)} texts would be cut otherwise, such as {different[0][:40]!r}: pieces "
            f"of this {before.kind} tokenizer are made of each other; nothing was written"
        )


def _alike(before: Tokenizer, after: Tokenizer, kept: list[int], texts: list[str]) -> list[bool]:
    """Say of each text whether it becomes the same pieces at the same places."""
    old, new, back = before.encode(texts), after.encode(texts), np.array(kept)
    return [
        b - a == d - c
        and np.array_equal(old.ids[a:b], back[new.ids[c:d]])
        and np.array_equal(old.spans[a:b], new.spans[c:d])
        for (a, b), (c, d) in zip(_bounds(old), _bounds(new), strict=True)
    ]


def _bounds(pieces: Pieces) -> list[tuple[int, int]]:
    splits = pieces.splits.tolist()
    return list(zip(splits[:-1], splits[1:], strict=True))


def _parameters(
    checkpoint: Checkpoint, config: ModelConfig, kept: list[int]
) -> tuple[Any, dict[str, NDArray[np.float32]]]:
    """Read all parameters, of those with a row for each piece the rows that stay."""
    wanted, n_rows = checkpoint.held(), checkpoint.config.vocab_size
    other = replace(checkpoint, config=replace(checkpoint.config, vocab_size=n_rows + 1)).held()
    with checkpoint.stream(wanted, fresh_head=False) as (report, tensors):
        ours = {name: value if other[name] == wanted[name] else value[np.array(kept)] for name, value in tensors}
    return report, ours


def _millions(values: Iterable[Any]) -> float:
    """Return how many numbers there are in arrays, or in arrays of given shapes."""
    return sum(int(np.prod(getattr(value, "shape", value))) for value in values) / 1e6


def _compared(before: Tokenizer, after: Tokenizer, kept: list[int], texts: list[str]) -> str:
    """Say how many pieces of other texts are unknown, before and after."""
    counts = []
    for tokenizer in (before, after):
        ids = tokenizer.encode(texts).ids
        counts.append(f"{int((ids == tokenizer.special_ids['unk']).sum())} of {len(ids)} pieces")
    n_alike = sum(_alike(before, after, kept, texts))
    return f"unknown were {counts[0]}, are {counts[1]}; {n_alike} of {len(texts)} texts are cut as before"
