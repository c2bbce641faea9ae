"""What is wrong with an answer: how the piece of text lies to the annotated ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from preprocess.types import Answer

#: Type of a mistake -> in words, as the page lists them.
MISTAKES = {
    "right": "right",
    "partly": "agrees with some annotators",
    "too_long": "boundary too long",
    "too_short": "boundary too short",
    "shifted": "boundary shifted",
    "wrong_place": "wrong place",
    "wrong_kind": "wrong kind",
    "wrong": "wrong",
    "should_be_unanswered": "should be unanswered",
    "left_unanswered": "left unanswered",
    "not_in_context": "not in the context",
    "missing": "no prediction",
}
#: What an empty answer says, where the task has no other name for it.
UNANSWERED = "unknown"


class Place(NamedTuple):
    """Half-open span of code points of the context."""

    start: int
    end: int


class Judgement(NamedTuple):
    """Type of a mistake, one of `MISTAKES`, and where the answer stands; None if nowhere."""

    mistake: str
    place: Place | None


def kind_of(text: str, kinds: Mapping[str, str]) -> str:
    """Return the kind of an answer: "span", or what its whole text stands for ("yes" for YES).

    Args:
        text: the answer.
        kinds: text -> kind; "" says that there is no answer, if nothing else is said of it.
    """
    return kinds.get(text, "span" if text else UNANSWERED)


def gold_kinds(gold: Sequence[Answer]) -> tuple[str, ...]:
    """Return the kind of each annotated answer; without any the question is unanswerable."""
    return tuple(answer.kind for answer in gold) or (UNANSWERED,)


def judge(
    answer: str | None, gold: Sequence[Answer], context: str, exact: float, kinds: Mapping[str, str]
) -> Judgement:
    """Say what is wrong with an answer.

    Args:
        answer: the predicted text; None for no prediction.
        gold: the annotated answers.
        context: in which both stand.
        exact: the metric's exact match, 0-1: the metric decides what is right, not the place.
        kinds: text -> kind of the answers that are no spans.
    """
    if answer is None:
        return Judgement("missing", None)
    if any(found.kind not in ("span", UNANSWERED, *kinds.values()) for found in gold):
        # A class, an option or several pieces: how they lie to each other says nothing.
        return Judgement("right" if exact >= 1 else "wrong", None)
    kind, expected = kind_of(answer, kinds), gold_kinds(gold)
    golds = [place for found in gold if found.kind == "span" for place in _places_of(found, context)]
    place = nearest(answer, golds, context) if kind == "span" else None
    return Judgement(_mistake(answer, place, golds, gold, exact, kind, expected), place)


def _mistake(
    answer: str,
    place: Place | None,
    golds: Sequence[Place],
    gold: Sequence[Answer],
    exact: float,
    kind: str,
    expected: Sequence[str],
) -> str:
    if exact >= 1:
        return "right"
    if kind in expected and (kind != "span" or any(answer == found.text for found in gold)):
        return "partly"
    if set(expected) == {UNANSWERED}:
        return "should_be_unanswered"
    if kind == UNANSWERED:
        return "left_unanswered"
    if kind not in expected:
        return "wrong_kind"
    if place is None:
        return "not_in_context"
    return _boundary(place, max(golds, key=lambda there: _overlap(place, there), default=None))


def _boundary(place: Place, gold: Place | None) -> str:
    if gold is None or min(place.end, gold.end) <= max(place.start, gold.start):
        return "wrong_place"
    if place.start <= gold.start and place.end >= gold.end:
        return "too_long"
    if place.start >= gold.start and place.end <= gold.end:
        return "too_short"
    return "shifted"


def nearest(text: str, golds: Sequence[Place], context: str) -> Place | None:
    """Return where a text stands; of several places that which has most in common with an annotated one.

    Files of predictions hold texts without their places, and the metrics don't ask for them.
    """
    found = list(occurrences(text, context))
    if not golds:
        return found[0] if found else None
    return max(found, key=lambda place: max(_overlap(place, gold) for gold in golds), default=None)


def occurrences(text: str, context: str) -> Iterator[Place]:
    """Yield all places of a text, first one first; none of an empty one."""
    start = context.find(text) if text else -1
    while start >= 0:
        yield Place(start, start + len(text))
        start = context.find(text, start + 1)


def _places_of(answer: Answer, context: str) -> list[Place]:
    if answer.located:
        return [Place(answer.char_start, answer.char_end)]
    return list(occurrences(answer.text, context))


def _overlap(one: Place, other: Place) -> float:
    """Return the share of the characters of both that are common, 0-1; 1 and the same place is 1."""
    common = min(one.end, other.end) - max(one.start, other.start)
    return max(0, common) / (max(one.end, other.end) - min(one.start, other.start))
