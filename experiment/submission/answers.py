"""Answers that are to be submitted: those of a run, and whether they can be meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiment.io.predictions import read_predictions
from experiment.training.finished import best_seed
from experiment.training.record import run_of, seed_directory
from preprocess.base.errors import DataError, UsageError
from preprocess.types import Example


def answers_of(run: Path, task: str) -> tuple[Path, Mapping[str, Any]]:
    """Return the answers to a task's test file, and where they stand.

    Args:
        run: a run directory, whose seed that is best on dev answers; or what `predict`, `ensemble` and `ask_llm`
            have written.
        task: that a run of several tasks answers.

    Raises:
        UsageError, DataError: if there are none.
    """
    path = run / "predictions.json"
    if not path.is_file():
        run = run_of(run, task)
        path = seed_directory(run, best_seed(run).seed) / "predictions_test.json"
        if not path.is_file():
            raise UsageError(
                f"{run}: trained without --test_file; answer the test file with predict, and give its --output_dir"
            )
    return path, read_predictions(path)


def check_answers(
    where: object, examples: Sequence[Example], answers: Mapping[str, Any], special: Collection[str] = ()
) -> None:
    """Refuse answers that are missing, of other questions, or neither part of their text nor one of their options.

    Args:
        where: names the answers in messages.
        examples: the questions.
        answers: question id -> answer.
        special: texts that are answers without being parts of a text.

    Raises:
        DataError: saying how many, and naming the first.
    """
    known = {example.id for example in examples}
    missing = [example.id for example in examples if example.id not in answers]
    foreign = [id for id in answers if id not in known]
    for ids, what in ((missing, "questions have no answer"), (foreign, "answers belong to no question of the file")):
        if ids:
            raise DataError(f"{where}: {len(ids)} {what}, such as {ids[0]!r}; answer this very file")
    texts = {example.id: (str(answers[example.id]), example.options or example.context) for example in examples}
    empty = [id for id, (text, _) in texts.items() if not text and "" not in special]
    # Test files of some organisers hold answers such as FAKE_ANSWER_1: whoever copies them has answered nothing.
    invented = [id for id, (text, there) in texts.items() if text not in special and text not in there]
    for ids, what in ((empty, "answers are empty"), (invented, "answers do not stand in their text or options")):
        if ids:
            shown = texts[ids[0]][0]
            raise DataError(
                f"{where}: {len(ids)} {what}, such as that of {ids[0]!r} ({shown!r}); they are not submitted"
            )
    if len(texts) > 1 and len({text for text, _ in texts.values()}) == 1:
        raise DataError(f"{where}: all {len(texts)} answers are the same; the model has not learned")
