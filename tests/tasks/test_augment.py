"""What is made of training questions: each case is computed by hand, and all of it is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preprocess.text.common import longest_common_part
from preprocess.types import Answer, Example
from tasks.core.augment import Augmentation, augmented, takes_no_answer, takes_spans
from tasks.core.discovery import get_task, task_names

SQUAD = get_task("squad_v2")


def _example(id, context, *answers, group="g", question="？", **more):
    found = tuple(Answer(a, context.index(a), context.index(a) + len(a)) for a in answers)
    return Example(id, question, context, found, group, {"is_impossible": "false"}, **more)


CATS = _example("cats", "小猫住在北京。小狗住在上海。天气很好。", "北京")


def _made(examples, task=SQUAD, **wanted):
    found = augmented(task, examples, Augmentation(**wanted))
    assert found.examples[: len(examples)] == list(examples)
    return found.examples[len(examples) :], found.report


def test_the_sentence_of_the_answer_is_deleted_and_nothing_else():
    (negative,), report = _made([CATS], delete_answer=1.0)
    assert negative == replace(
        CATS,
        id="cats#answer-deleted",
        context="小狗住在上海。天气很好。",
        answers=(),
        extra={"is_impossible": "true"},
    )
    assert [target.text for target in SQUAD.targets(negative)] == [""]
    assert report["delete_answer"] == {
        "rate": 1.0, "of_questions_with_an_answer": 1, "possible": 1, "ids": ["cats#answer-deleted"],
    }  # fmt: skip
    # All annotators' sentences go, and an answer over two sentences takes both.
    both = _example("both", CATS.context, "北京", "上海")
    across = _example("across", CATS.context, "北京。小狗")
    made, _ = _made([both, across], delete_answer=1.0)
    assert [one.context for one in made] == ["天气很好。"] * 2


def test_a_text_without_sentences_loses_the_clause_of_the_answer():
    """CJRC's texts have commas where their full stops have gone; a comma in a number parts nothing."""
    clauses = _example("c", "经审理查明:小猫住在北京,小狗住在上海;付了1,500元", "1,500元")
    (negative,), _ = _made([clauses, replace(clauses, id="d", context="付了1,500元")], delete_answer=1.0)
    assert negative.context == "经审理查明:小猫住在北京,小狗住在上海;"


def test_a_question_that_could_still_be_answered_or_has_no_text_left_is_not_made():
    twice = _example("twice", "他在北京。她也在北京。", "北京")
    alone = _example("alone", "他在北京。", "北京")
    made, report = _made([twice, alone, CATS], delete_answer=1.0)
    assert [one.id for one in made] == ["cats#answer-deleted"]
    counts = report["delete_answer"]
    assert (counts["answer_stands_elsewhere_too"], counts["no_text_would_be_left"]) == (1, 1)
    assert counts["possible"] + 2 == counts["of_questions_with_an_answer"] == 3


def test_what_has_no_place_to_delete_is_left_alone():
    """Questions without an answer, answers of other kinds, and answers that are not trained on."""
    impossible = replace(CATS, id="i", extra={"is_impossible": "true"})
    unanswered, lost = replace(CATS, id="u", answers=()), replace(CATS, id="l", answers=(Answer("南京"),))
    _, report = _made([impossible, unanswered, lost], delete_answer=1.0)
    assert report["delete_answer"]["of_questions_with_an_answer"] == 0
    yes = replace(CATS, answers=(Answer("YES", kind="yes"), *CATS.answers))
    assert _made([yes], get_task("cjrc"), delete_answer=1.0)[1]["delete_answer"]["ids"] == []
    assert len(_made([CATS], get_task("cjrc"), delete_answer=1.0)[0]) == 1


def test_another_text_of_the_article_must_not_hold_the_answer_nor_be_asked_the_same():
    other = _example("other", "天上有云。", "云", question="天上有什么？")
    holds = _example("holds", "北京很大。", "很大", question="北京怎么样？")
    same = _example("same", "小猫住在首都。", "首都", question=CATS.question)
    elsewhere = _example("elsewhere", "地上有草。", "草", group="h")
    made, report = _made([CATS, other, holds, same, elsewhere], other_context=1.0)
    (cats,) = (one for one in made if one.id == "cats#other-context")
    assert (cats.context, cats.answers, cats.question) == (other.context, (), CATS.question)
    assert "elsewhere#other-context" not in {one.id for one in made}
    assert report["other_context"]["article_has_no_other_text"] == 1
    made, report = _made([CATS, holds, same], other_context=1.0)
    assert report["other_context"]["other_texts_hold_the_answer"] == 1
    no_article = [replace(one, group="") for one in (CATS, other)]
    assert _made(no_article, other_context=1.0)[0] == []


def test_a_share_is_drawn_by_the_seed_and_counted():
    many = [replace(CATS, id=f"q{n}", context=f"{CATS.context}第{n}句。") for n in range(20)]
    made, report = _made(many, delete_answer=0.25, other_context=0.5, seed=3)
    ids = [one.id for one in made]
    assert ids == report["delete_answer"]["ids"] == sorted(ids, key=lambda id: int(id[1:].split("#")[0]))
    assert len(ids) == 5 and report["delete_answer"]["possible"] == 20
    assert _made(many, delete_answer=0.25, other_context=0.5, seed=3)[0] == made
    assert [one.id for one in _made(many, delete_answer=0.25, seed=4)[0]] != ids
    lines = augmented(SQUAD, many, Augmentation(delete_answer=0.25, seed=3)).lines()
    assert lines == [
        "  questions made by deleting the sentence of their answer: 5 (rate 0.25, of questions with an answer 20, "
        "possible 20)"
    ]


def test_one_kind_is_drawn_alike_whether_the_other_is_wanted_or_not():
    many = [_example(f"q{n}", f"小猫住在北京。第{n}句。", "北京", question=f"{n}？") for n in range(12)]
    others = [_example(f"o{n}", f"天上有云{n}朵。", f"{n}朵", question=f"几{n}？") for n in range(6)]
    alone = _made([*many, *others], other_context=0.5)[1]["other_context"]["ids"]
    both = _made([*many, *others], other_context=0.5, delete_answer=0.5)[1]["other_context"]["ids"]
    assert alone == both and alone


def test_the_longest_part_of_an_answer_that_stands_in_the_text_is_trained_on():
    task = get_task("cmrc2018")
    lost = replace(CATS, id="lost", answers=(Answer("住在北京市"), Answer("南方")))
    kept = augmented(task, [CATS, lost], Augmentation(weak_spans=0.8))
    assert kept.examples[0] is CATS
    assert kept.examples[1].answers == (*lost.answers, Answer("住在北京", 2, 6))
    assert task.targets(kept.examples[1]) == (Answer("住在北京", 2, 6),)
    assert kept.report["weak_spans"] == {"least_share": 0.8, "of_questions_without_a_place": 1, "ids": ["lost"]}
    assert kept.lines() == [
        "  answers without a place trained on as a part of them: 1 (least share 0.8, of questions without a place 1)"
    ]
    less = augmented(task, [CATS, lost], Augmentation(weak_spans=0.81))
    assert less.examples == [CATS, lost] and less.report["weak_spans"]["ids"] == []


@pytest.mark.parametrize(
    ("text", "context", "part", "share"),
    [
        ("甲乙丙", "丙乙甲乙", "甲乙", 2 / 3),
        ("甲乙", "丁丁", "", 0.0),
        ("甲", "", "", 0.0),
        ("aab", "abaab", "aab", 1.0),
        ("𠀀b", "a𠀀", "𠀀", 0.5),
        ("甲乙丁丙", "丙丁乙甲", "丙", 0.25),  # of equally long ones the first
    ],
)
def test_longest_common_part_counts_code_points(text, context, part, share):
    found = longest_common_part(text, context)
    assert context[found.char_start : found.char_end] == part and found.share == pytest.approx(share)
    assert context.find(part) == found.char_start


def test_tasks_say_what_they_learn_from():
    assert {name for name in task_names() if takes_no_answer(get_task(name))} >= {"cjrc", "squad_v2"}
    for name in ("cmrc2018", "drcd", "squad", "xnli", "msra_ner", "c3", "dbqa"):
        assert not takes_no_answer(get_task(name))
    assert takes_spans(get_task("cmrc2018")) and not takes_spans(get_task("xnli"))
