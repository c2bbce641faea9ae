"""Files -> texts without questions, each once: what a model is pre-trained on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.inputs.data import read_examples
from preprocess.base.errors import DataError
from preprocess.base.hashing import hash_of_files
from preprocess.readers.lines import read_lines
from preprocess.types import Example
from tasks.core.task import Task

#: Of the draw of the texts that are held out: the same for all seeds of a run.
_SEED = 0


@dataclass(frozen=True)
class TextFiles:
    """The texts of some files.

    Args:
        texts: as contexts, in the order of the files; each once.
        report: on the files: JSON-able, with the "sha256" of all and printable "lines".
    """

    texts: list[Example]
    report: dict[str, Any]


def read_texts(task: Task | None, task_files: Sequence[Path], text_files: Sequence[Path]) -> TextFiles:
    """Read files.

    Args:
        task: whose layout the first ones have; what it converts of its contexts is converted.
        task_files: the first ones.
        text_files: plain text, a text per line.

    Raises:
        DataError: naming all files that can't be used, or the files if there is no text in them.
    """
    texts: dict[str, Example] = {}
    digests, lines, problems = [], [], []
    readers: list[tuple[Path, Callable[[Path], tuple[list[Example], str]]]] = [(path, _plain) for path in text_files]
    if task is not None:
        readers = [*((path, _contexts(task)) for path in task_files), *readers]
    for path, read in readers:
        try:
            examples, digest = read(path)
        except DataError as error:
            problems.append(str(error))
            continue
        n_before = len(texts)
        for example in examples:
            texts.setdefault(example.context, example)
        digests.append(digest)
        lines.append(f"{path}: {len(texts) - n_before} texts that did not come before")
    if problems:
        raise DataError("; ".join(dict.fromkeys(problems)))
    if not texts:
        raise DataError(f"{', '.join(str(path) for path, _ in readers)}: no text to read; give files with texts")
    whole = hash_of_files(digests)
    report = {"files": [str(path) for path, _ in readers], "n_texts": len(texts), "sha256": whole, "lines": lines}
    return TextFiles(list(texts.values()), report)


def _contexts(task: Task) -> Callable[[Path], tuple[list[Example], str]]:
    def read(path: Path) -> tuple[list[Example], str]:
        examples, report = read_examples(task, path)
        converted = task.transform
        contexts = dict.fromkeys(example.context for example in examples)
        read = (context if converted is None else converted(context).text for context in contexts)
        return _as_examples(path, enumerate(read)), report.sha256

    return read


def _plain(path: Path) -> tuple[list[Example], str]:
    lines, digest = read_lines(path)
    return _as_examples(path, enumerate((line.strip() for line in lines), 1)), digest


def _as_examples(path: Path, texts: Iterable[tuple[int, str]]) -> list[Example]:
    return [Example(f"{path}:{number}", "", text) for number, text in texts if text.strip()]


def held_out(texts: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """Divide texts into those that are trained on and those that are evaluated on.

    Args:
        texts: that differ.
        share: between 0 and 1, of those that are evaluated on: rounded, at least one, and never all.

    Raises:
        DataError: if there is one text alone.
    """
    if len(texts) < 2:
        raise DataError(f"{texts[0].id}: the only text, of which none can be held out; give a --validation_file")
    order = list(range(len(texts)))
    random.Random(_SEED).shuffle(order)
    drawn = set(order[: min(max(1, round(share * len(texts))), len(texts) - 1)])
    return [text for i, text in enumerate(texts) if i not in drawn], [texts[i] for i in sorted(drawn)]
