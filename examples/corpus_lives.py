"""Invented lives, for the layouts of CMRC2018 and DRCD.

A context tells six to nine things of one person, in random order; which of them is the answer depends on the question
alone. In some contexts a teacher and a friend are told apart by their clause only, not by their spelling.
"""

from __future__ import annotations

from dataclasses import dataclass

from corpus_names import Names

QUESTIONS_PER_CONTEXT, FACTS_PER_CONTEXT = 7, (6, 8)
MIN_CONTEXT_CHARS, MAX_CONTEXT_CHARS = 60, 150


@dataclass(frozen=True)
class Attribute:
    """One thing told of a person or case.

    Args:
        kind: type of the answer.
        clause: how it is told; `X` is the answer.
        questions: ways to ask for it; `P` is the person.
        unit: measure word that ends the answer.
    """

    kind: str
    clause: str
    questions: tuple[str, ...]
    unit: str = ""


@dataclass(frozen=True)
class Question:
    """A question, its answer and the answer's first code point in the context, -1 where it has none."""

    text: str
    answer: str
    char_start: int


@dataclass(frozen=True)
class Context:
    """A context, what it is about, its questions, and what is named: kind, first code point and one past the last."""

    title: str
    text: str
    questions: tuple[Question, ...]
    named: tuple[tuple[str, int, int], ...] = ()


ATTRIBUTES = (
    Attribute("county", "生于X", ("P出生在哪里？", "P生于哪里？")),
    Attribute("temple", "学艺于X", ("P在哪座寺庙学艺？", "P学艺的寺庙叫什么？")),
    Attribute("master", "老师是X", ("P的老师是谁？", "P的老师叫什么？")),
    Attribute("profession", "是一名X", ("P的职业是什么？", "P是做什么工作的？")),
    Attribute("year", "开店于X", ("P是哪一年开店的？", "P什么时候开店？")),
    Attribute("count", "徒弟有X", ("P收了多少徒弟？", "P有几名徒弟？"), "名"),
    Attribute("book", "写了一本X", ("P写了哪本书？", "P写的书叫什么？")),
    Attribute("animal", "养了一只X", ("P养了什么动物？", "P养的是什么？")),
)
# A second person in some contexts: teacher and friend are told apart by what stands before them alone, which a tiny
# model learns slowly.
FRIEND = Attribute("master", "好友叫X", ("P的好友是谁？", "P的好友叫什么？"))
FRIEND_SHARE = 0.3
FILLERS = ("那里四季分明", "当地的人都记得这些事", "这些事写在地方志里", "这个故事流传很广")


def life(names: Names) -> Context:
    """Return the next life, MIN_CONTEXT_CHARS to MAX_CONTEXT_CHARS long."""
    while True:
        context = _draft(names)
        if MIN_CONTEXT_CHARS <= len(context.text) <= MAX_CONTEXT_CHARS:
            return context


def _draft(names: Names) -> Context:
    rng, used = names.rng, list[str]()
    person = names.entity("person", used)
    attributes = rng.sample(ATTRIBUTES, rng.randint(*FACTS_PER_CONTEXT))
    if rng.random() < FRIEND_SHARE:
        attributes.insert(rng.randint(1, len(attributes)), FRIEND)
    told = [(attribute, names.entity(attribute.kind, used) + attribute.unit) for attribute in attributes]
    text, questions, named = "", [], []
    for i, (attribute, value) in enumerate(told):
        subject = person if i == 0 else rng.choice(("", "他", person))
        before, after = attribute.clause.split("X")
        if subject == person:
            named.append(("person", len(text), len(text) + len(person)))
        text += subject + before
        named.append((attribute.kind, len(text), len(text) + len(value)))
        questions.append(Question(rng.choice(attribute.questions).replace("P", person), value, len(text)))
        text += value + after + rng.choice("，。" if i + 1 < len(told) else "。")
    if rng.random() < 0.3:
        text += rng.choice(FILLERS) + "。"
    asked = rng.sample(questions, min(len(questions), QUESTIONS_PER_CONTEXT))
    return Context(person, text, tuple(asked), tuple(named))


def told_before(context: Context) -> Context:
    """Return the context opening with its book's title, so that an answer does not stand where it first occurs."""
    title = next((q.answer for q in context.questions if q.answer.startswith("《")), None)
    if title is None:
        return context
    opening = f"{title}流传很广。"
    moved = (Question(q.text, q.answer, q.char_start + len(opening)) for q in context.questions)
    return Context(context.title, opening + context.text, tuple(moved))
