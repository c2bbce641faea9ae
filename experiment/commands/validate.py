"""Checking a user's data files: every question accounted for, and text that occurs twice or in two splits."""

from __future__ import annotations

import dataclasses
import string
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.io.outputs import check_file
from experiment.io.terminal import terminal
from experiment.options.flags import ValidateOptions
from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import write_json
from preprocess.readers.report import DataReport
from preprocess.types import Example
from tasks.core.discovery import get_task
from tasks.core.task import Task

#: Printed per list; the JSON report holds all.
_PRINTED = 20


@dataclass(frozen=True, slots=True)
class Shared:
    """A text that two splits share, or that one file holds twice.

    Args:
        exact: equal as published; else only after `normalise`.
        left: ids of the questions that have the text in the first split; of its first paragraph in the file.
        right: ids in the second split; of its other paragraphs in the file.
    """

    exact: bool
    left: tuple[str, ...]
    right: tuple[str, ...]


def validate(options: ValidateOptions) -> int:
    """Print the report of every file, and what --train and --dev share.

    Returns:
        the exit status: 1 if a question, paragraph or article of any file was dropped, else 0.

    Raises:
        UsageError: if no file is given, or only one of --train and --dev.
        DataError: naming all files that can't be used at all, after the reports of the others.
    """
    check_file("--output", options.output)
    if (options.train is None) != (options.dev is None):
        raise UsageError("--train and --dev belong together: give both to compare them")
    pair = [path for path in (options.train, options.dev) if path is not None]
    paths = list(dict.fromkeys([*options.files, *pair]))
    if not paths:
        raise UsageError("validate needs files to check, or --train and --dev")
    checked, unusable = _read_all(get_task(options.task), paths)
    document: dict[str, Any] = {"task": options.task, "files": [], "unusable": unusable}
    for examples, report in checked.values():
        repeated = duplicates(examples)
        _print([*report.lines(limit=None), *_lines(repeated, "repeated in the file")])
        problems = [dataclasses.asdict(problem) for problem in report.problems]
        document["files"].append({**report.to_json(), "problems": problems, "repeated": _to_json(repeated)})
    if pair and checked.keys() >= set(pair):
        overlap = shared(checked[pair[0]][0], checked[pair[1]][0])
        _print([f"{pair[0]} and {pair[1]}:", *_lines(overlap, "shared")])
        document["shared"] = _to_json(overlap)
    if options.output is not None:
        write_json(options.output, document)
    if unusable:
        raise DataError("; ".join(unusable))
    return int(any(report.lost for _, report in checked.values()))


def _read_all(task: Task, paths: Sequence[Path]) -> tuple[dict[Path, tuple[list[Example], DataReport]], list[str]]:
    checked: dict[Path, tuple[list[Example], DataReport]] = {}
    unusable: list[str] = []
    for path in paths:
        try:
            checked[path] = task.read(path)
        except DataError as error:
            unusable.append(str(error))
    return checked, unusable


def normalise(texts: Iterable[str]) -> dict[str, str]:
    """Reduce texts to what is left when spelling does not count.

    That is: NFKC, lower case, without white space, punctuation (Unicode's P and ASCII's) and invisible characters
    (Unicode's Z and C).

    Args:
        texts: any strings; equal ones are worked on once.

    Returns:
        text to reduced text, "" where nothing is left.
    """
    folded = {text: unicodedata.normalize("NFKC", text).lower() for text in texts}
    characters = set().union(*folded.values()) if folded else set()
    removed = {ord(c): None for c in characters if c in string.punctuation or unicodedata.category(c)[0] in "PZC"}
    return {text: short.translate(removed) for text, short in folded.items()}


def shared(left: Sequence[Example], right: Sequence[Example]) -> dict[str, list[Shared]]:
    """Find what two splits have in common, exactly or after `normalise`.

    Texts of which nothing is left are not compared: gold files without contexts share none.

    Returns:
        "context", "question" and "question and context" to the shared texts, in the order of `left`.
    """
    reduced = _reduced([*left, *right])
    found: dict[str, list[Shared]] = {}
    for name in _KEYS:
        ours, theirs = _index(left, name, reduced), _index(right, name, reduced)
        found[name] = [_shared(ours[key], theirs[key]) for key in ours if key in theirs]
    return found


def duplicates(examples: Sequence[Example]) -> dict[str, list[Shared]]:
    """Find contexts that several paragraphs of a file have, and questions asked twice about one context.

    Returns:
        "context" and "question and context" to the repeated texts, in file order.
    """
    reduced = _reduced(examples)
    # The questions of one paragraph stand together; its context is no repetition of itself.
    new = [i == 0 or _paragraph(e) != _paragraph(examples[i - 1]) for i, e in enumerate(examples)]
    first_questions = [example for example, is_new in zip(examples, new, strict=True) if is_new]
    found: dict[str, list[Shared]] = {}
    for name, candidates in (("context", first_questions), ("question and context", examples)):
        groups = _index(candidates, name, reduced).values()
        found[name] = [_shared(group[:1], group[1:]) for group in groups if len(group) > 1]
    return found


#: One occurrence of a text: question id, and the text as published.
_Occurrence = tuple[str, tuple[str, ...]]

_KEYS = {
    "context": lambda example: (example.context,),
    "question": lambda example: (example.question,),
    "question and context": lambda example: (example.question, example.context),
}


def _reduced(examples: Iterable[Example]) -> dict[str, str]:
    return normalise({text for example in examples for text in (example.context, example.question)})


def _paragraph(example: Example) -> tuple[str, str]:
    return example.group, example.context


def _index(
    examples: Sequence[Example], name: str, reduced: Mapping[str, str]
) -> dict[tuple[str, ...], list[_Occurrence]]:
    """Return reduced text -> where it occurs."""
    index: dict[tuple[str, ...], list[_Occurrence]] = {}
    for example in examples:
        published = _KEYS[name](example)
        key = tuple(reduced[text] for text in published)
        if all(key):
            index.setdefault(key, []).append((example.id, published))
    return index


def _shared(left: Sequence[_Occurrence], right: Sequence[_Occurrence]) -> Shared:
    exact = not {text for _, text in left}.isdisjoint(text for _, text in right)
    return Shared(exact, tuple(id for id, _ in left), tuple(id for id, _ in right))


def _lines(found: Mapping[str, Sequence[Shared]], how: str) -> list[str]:
    lines = []
    for name, items in found.items():
        n_exact = sum(item.exact for item in items)
        lines.append(f"  {name} {how}: {n_exact} exact, {len(items)} after normalisation")
        for item in items[:_PRINTED]:
            equal = "=" if item.exact else "~"
            lines.append(f"    {_ids(item.left)} {equal} {_ids(item.right)}")
        if len(items) > _PRINTED:
            lines.append(f"    … and {len(items) - _PRINTED} more (all of them in --output)")
    return lines


def _ids(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} (and {len(ids) - 1} more)"


def _to_json(found: Mapping[str, Sequence[Shared]]) -> dict[str, Any]:
    return {
        name: {
            "n_exact": sum(item.exact for item in items),
            "n_normalised": len(items),
            "texts": [dataclasses.asdict(item) for item in items],
        }
        for name, items in found.items()
    }


def _print(lines: Iterable[str]) -> None:
    console = terminal()
    for line in lines:
        console.print(line)
