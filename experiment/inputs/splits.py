"""The data files of a training run: each read once, hashed as it is read, and named if it can't be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiment.inputs.augmentation import Additions
from experiment.inputs.data import first_targets, read_examples, scorer_of, trainable
from experiment.options.data import Files
from preprocess.base.errors import DataError
from preprocess.types import Example
from tasks.core.prediction import Scorer
from tasks.core.task import Task


@dataclass(frozen=True)
class Split:
    """What was read of a data file.

    Args:
        examples: E examples; one with several targets stands in the training data several times.
        targets: E of them, as the problem takes them; None where there is none.
        report: on the file: JSON-able, with its "sha256" and printable "lines".
        scorer: the metric with its gold prepared; None if there is nothing to score against.
    """

    examples: list[Example]
    targets: Sequence[Any]
    report: dict[str, Any]
    scorer: Scorer | None


def read_splits(
    task: Task,
    files: Mapping[str, Files | None],
    limits: Mapping[str, int | None],
    additions: Additions | None = None,
    *,
    taught: bool = False,
) -> dict[str, Split]:
    """Read the files of a run.

    Args:
        task: whose files they are.
        files: "train", "dev" and "test" to a file, or several; None for none.
        limits: split to the number of questions that are used of it; None (or no entry) for all.
        additions: what is added to "train"; None for nothing.
        taught: whether there are teachers, so that all questions can be trained on.

    Returns:
        the splits that have a file, in the order of `files`. "train" holds the questions that can be trained on.

    Raises:
        DataError: naming all files that can't be used.
    """
    splits: dict[str, Split] = {}
    problems: list[str] = []
    for name, path in files.items():
        if path is None:
            continue
        try:
            splits[name] = _read_split(task, name, path, limits.get(name), additions, taught)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("; ".join(dict.fromkeys(problems)))
    # Of a pair, the same text beside another one is another question.
    of_pairs = "question" in task.inputs and all(output.loss == "class" for output in task.problem.head.outputs)

    def texts_of(split: Split) -> set[tuple[str, str]]:
        return {(e.context, e.question if of_pairs else "") for e in split.examples if e.context}

    learned = texts_of(splits["train"]) if "train" in splits else set()
    for name, split in splits.items():
        texts = texts_of(split)
        if name != "train" and (n_shared := len(texts & learned)):
            said = f"{n_shared} of the {len(texts)} texts of {name} are also trained on"
            split.report["lines"].append(f"  warning: {said}")
            split.report["warnings"] = [said]
    return splits


def _read_split(
    task: Task, name: str, path: Files, limit: int | None, additions: Additions | None, taught: bool
) -> Split:
    examples, report = read_examples(task, path, limit)
    lines = report.lines()
    facts = {**report.to_json(), "lines": lines}
    if name == "train":
        if additions is not None:
            examples, added, more = additions.to(task, examples)
            facts["augmentation"] = added
            lines += more
        usable = trainable(task, examples, report, taught=taught)
        n_without = len(usable.without_target)
        n_trained = len(examples) - n_without
        instead = "learned from teachers alone" if taught else "not trained on"
        lines.append(f"  trained on: {n_trained}; {instead} for want of a located answer: {n_without}")
        return Split(usable.examples, usable.targets, {**facts, "without_target": usable.without_target}, None)
    # A test file may come without answers; it is then answered and not scored.
    targets = first_targets(task, examples)
    scored = name == "dev" or _tells_answers(examples, targets)
    scorer = scorer_of(task, examples, report) if scored else None
    return Split(examples, targets, facts, scorer)


def _tells_answers(examples: Sequence[Example], targets: Sequence[Any]) -> bool:
    """Whether a file tells what is right: by answers, or by saying of every question that there is none.

    Empty lists alone do not say so: answers that are kept secret may have been taken out of them.
    """
    return any(example.answers for example in examples) or all(
        example.extra.get("is_impossible") == "true" and target is not None
        for example, target in zip(examples, targets, strict=True)
    )
