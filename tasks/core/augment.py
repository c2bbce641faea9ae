"""More to train on, made of what is there: questions without an answer, and parts of answers that have no place.

All of it is a function of the examples and a seed, and all of it is counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from preprocess.text.common import longest_common_part
from preprocess.text.sentences import split_sentences
from preprocess.types import Answer, Example
from tasks.core.task import Task

#: What an id ends with, by how its question was made; nothing that was published is called so.
DELETED, ELSEWHERE = "#answer-deleted", "#other-context"
_IMPOSSIBLE = "is_impossible"
#: Most of CJRC's published texts have lost their full stops: what commas part is the least that can be deleted.
_CLAUSE_END = re.compile(r"[;；，]|,(?!\d)")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is made.

    Args:
        delete_answer: share, 0-1, of the questions with an answer that stand there once more, without an answer and
            without the sentences that hold it.
        other_context: share, 0-1, of those that stand there once more, without an answer and with another text of
            their article.
        weak_spans: share of an answer, 0-1, that at least has to stand in the text as one piece to be trained on
            where the answer has no place; 0 for none.
        seed: of the draws.
    """

    delete_answer: float = 0.0
    other_context: float = 0.0
    weak_spans: float = 0.0
    seed: int = 0

    @property
    def makes_negatives(self) -> bool:
        """Whether it makes questions without an answer."""
        return self.delete_answer > 0 or self.other_context > 0


@dataclass(frozen=True)
class Augmented:
    """What was made.

    Args:
        examples: the published ones in order, some with one answer more, and behind them those that were made.
        report: JSON-able: what was asked for, and what became of every question that it is about.
    """

    examples: list[Example]
    report: dict[str, Any]

    def lines(self) -> list[str]:
        """Return the report as printable lines, all counts."""
        words = {
            "delete_answer": "questions made by deleting the sentence of their answer",
            "other_context": "questions made with another text of their article",
            "weak_spans": "answers without a place trained on as a part of them",
        }
        lines = []
        for name, counts in self.report.items():
            if name in words:
                rest = ", ".join(f"{what.replace('_', ' ')} {counts[what]}" for what in counts if what != "ids")
                lines.append(f"  {words[name]}: {len(counts['ids'])} ({rest})")
        return lines


def takes_no_answer(task: Task) -> bool:
    """Whether a task learns from questions that have no answer, as one more answer."""
    targets = task.targets(Example("", "", ""))
    return bool(targets) and all(type(target) is Answer and not target.text for target in targets)


def takes_spans(task: Task) -> bool:
    """Whether a task learns where answers stand."""
    return any(output.loss == "position" for output in task.problem.head.outputs)


def augmented(task: Task, examples: Sequence[Example], wanted: Augmentation) -> Augmented:
    """Add what is wanted to the training questions of a file.

    Args:
        task: whose they are; `takes_no_answer` and `takes_spans` say what it may be asked for.
        examples: of one file.
        wanted: what to make.
    """
    kept = list(examples)
    report: dict[str, Any] = {"seed": wanted.seed}
    if wanted.weak_spans > 0:
        kept, report["weak_spans"] = _with_weak_spans(task, examples, wanted.weak_spans)
    # The draws of one kind do not depend on whether the other is wanted, too.
    answered = [example for example in examples if _has_places(task, example)] if wanted.makes_negatives else []
    made: list[Example] = []
    for number, (name, rate, change) in enumerate(
        (
            ("delete_answer", wanted.delete_answer, _without_answer),
            ("other_context", wanted.other_context, _OtherContexts(examples).of),
        )
    ):
        if rate > 0:
            rng = np.random.default_rng((wanted.seed, number))
            new, report[name] = _negatives(answered, rate, change, rng)
            made += new
    return Augmented([*kept, *made], report)


def drawn(examples: Sequence[Example], rate: float, seed: int, number: int) -> list[Example]:
    """Return a share of the examples of a further file, in order.

    Args:
        examples: of the file.
        rate: the share, 0-1.
        seed: of the draw.
        number: of the file, from 2; files are drawn from apart.
    """
    rng = np.random.default_rng((seed, 0, number))
    places = sorted(rng.permutation(len(examples))[: round(rate * len(examples))].tolist())
    return [examples[place] for place in places]


def _has_places(task: Task, example: Example) -> bool:
    """Whether all annotated answers are spans with a place, and one of them is trained on."""
    answers = example.answers
    places = bool(answers) and all(type(answer) is Answer and answer.located for answer in answers)
    return places and any(target.text for target in task.targets(example))


#: Example and numbers -> its copy without an answer; or why there is none.
Change = Callable[[Example, np.random.Generator], Example | str]


def _negatives(
    answered: Sequence[Example], rate: float, change: Change, rng: np.random.Generator
) -> tuple[list[Example], dict[str, Any]]:
    """Return a share of the negatives that can be made, and the counts."""
    possible, why = [], dict[str, int]()
    for example in answered:
        found = change(example, rng)
        if isinstance(found, str):
            why[found] = why.get(found, 0) + 1
        else:
            possible.append(found)
    drawn = sorted(rng.permutation(len(possible))[: round(rate * len(possible))].tolist())
    made = [possible[i] for i in drawn]
    counts = {"of_questions_with_an_answer": len(answered), "possible": len(possible), **dict(sorted(why.items()))}
    return made, {"rate": rate, **counts, "ids": [example.id for example in made]}


def _without_answer(example: Example, rng: np.random.Generator) -> Example | str:
    context = example.context
    kept = [
        context[start:end]
        for start, end in _sentences(context)
        if not any(start < answer.char_end and answer.char_start < end for answer in example.answers)
    ]
    rest = "".join(kept)
    if not rest.strip():
        return "no_text_would_be_left"
    if _holds_answer(rest, example):
        return "answer_stands_elsewhere_too"
    return _unanswerable(example, rest, DELETED)


def _sentences(context: str) -> list[tuple[int, int]]:
    """Return the places of the sentences of a text; of one that has no more than one, of its clauses."""
    sentences = split_sentences(context)
    if len(sentences) > 1:
        return [(sentence.char_start, sentence.char_end) for sentence in sentences]
    ends = [*(match.end() for match in _CLAUSE_END.finditer(context)), len(context)]
    return [(start, end) for start, end in pairwise([0, *ends]) if start < end]


class _OtherContexts:
    """The other texts of an example's article, none of which answers it."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._contexts: dict[str, dict[str, set[str]]] = {}
        for example in examples:
            of_group = self._contexts.setdefault(example.group, {})
            of_group.setdefault(example.context, set()).add(example.question)

    def of(self, example: Example, rng: np.random.Generator) -> Example | str:
        of_group = self._contexts[example.group].items()
        others = {context: asked for context, asked in of_group if context.strip() and context != example.context}
        if not example.group or not others:
            return "article_has_no_other_text"
        # A text that is asked the same may answer it in other words.
        silent = [c for c, asked in others.items() if example.question not in asked and not _holds_answer(c, example)]
        if not silent:
            return "other_texts_hold_the_answer"
        return _unanswerable(example, silent[int(rng.integers(len(silent)))], ELSEWHERE)


def _holds_answer(context: str, example: Example) -> bool:
    return any(answer.text.strip() in context for answer in example.answers)


def _unanswerable(example: Example, context: str, suffix: str) -> Example:
    extra: Mapping[str, str] = example.extra
    if _IMPOSSIBLE in extra:
        extra = {**extra, _IMPOSSIBLE: "true"}
    return replace(example, id=f"{example.id}{suffix}", context=context, answers=(), extra=extra)


def _with_weak_spans(task: Task, examples: Sequence[Example], least: float) -> tuple[list[Example], dict[str, Any]]:
    """Add to examples that nothing could be trained on the longest part of an answer that stands in their text."""
    kept, ids, n_without = [], [], 0
    for example in examples:
        lost = [answer for answer in example.answers if answer.kind == "span" and answer.text]
        if example.labelled and lost and not task.targets(example):
            n_without += 1
            found = max((longest_common_part(answer.text, example.context) for answer in lost), key=lambda p: p.share)
            if found.share >= least:
                text = example.context[found.char_start : found.char_end]
                weak = Answer(text, found.char_start, found.char_end)
                example = replace(example, answers=(*example.answers, weak))
                ids.append(example.id)
        kept.append(example)
    return kept, {"least_share": least, "of_questions_without_a_place": n_without, "ids": ids}
