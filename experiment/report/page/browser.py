"""What the error browser reads: every question and answer, as small as JSON allows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiment.report.page.curves import title_of
from experiment.report.page.mistakes import MISTAKES, nearest
from experiment.report.page.views import JudgedSystem, View

#: Half of a pair, which UTF-8 can't hold.
_HALF = re.compile("[\ud800-\udfff]")
_DIGITS = 4


def browser_data(views: Sequence[View], n_best: int) -> dict[str, Any]:
    """Return all questions with everybody's answers.

    Places are half-open spans of code points of the context.

    Args:
        views: the sets of questions.
        n_best: candidates that are kept of each list.
    """
    return {"mistakes": list(MISTAKES.items()), "sets": [_set(view, n_best) for view in views]}


def _set(view: View, n_best: int) -> dict[str, Any]:
    contexts = {example.context: None for example in view.set.examples}
    number = {context: i for i, context in enumerate(contexts)}
    questions = []
    for example in view.set.examples:
        gold = [
            [answer.text, answer.kind, *([answer.char_start, answer.char_end] if answer.located else [])]
            for answer in dict.fromkeys(example.answers)
        ]
        questions.append([example.id, example.question, number[example.context], gold])
    return {
        "title": view.title,
        "exact": title_of(view.exact),
        "metrics": [title_of(metric) for metric in view.set.metrics],
        "contexts": list(contexts),
        "questions": questions,
        "systems": [_system(view, judged, n_best) for judged in view.judged],
    }


def _system(view: View, judged: JudgedSystem, n_best: int) -> dict[str, Any]:
    metrics = [judged.metric(metric) for metric in view.set.metrics]
    answers = []
    names = list(MISTAKES)
    for i, example in enumerate(view.set.examples):
        mistake, place = judged.judgements[i]
        sure = float(judged.confidence[i])
        candidates = [_candidate(candidate, example.context) for candidate in judged.nbest[i][:n_best]]
        answers.append(
            [
                names.index(mistake),
                [round(float(values[i]), _DIGITS) for values in metrics],
                None if math.isnan(sure) else round(sure, _DIGITS),
                list(place) if place is not None else judged.texts[i],
                candidates,
            ]
        )
    return {"model": judged.system.model, "seed": judged.system.seed, "answers": answers}


def _candidate(candidate: Mapping[str, Any], context: str) -> list[Any]:
    """Return [start, end, probability], or [text, probability] of what does not stand in the context."""
    place = nearest(candidate["text"], [], context)
    probability = round(float(candidate["probability"]), _DIGITS)
    return [*(place if place is not None else [candidate["text"]]), probability]


def script_json(value: Any) -> str:
    """Return JSON that may stand in a <script> element: nothing in it ends the element or begins a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _HALF.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
