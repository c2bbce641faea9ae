"""What several documents say as one, how sure it is, and what a temperature makes of that."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from experiment.reading.results import Pooled, Question, pooled, result_of
from tasks.core.prediction import Candidate, DecodeOptions, Prediction

OPTIONS = DecodeOptions(n_best_size=3)


def _prediction(*candidates, kind="span", chosen=0):
    """Of (text, place, score) with the null ones at -1; probabilities are not looked at."""
    nbest = tuple(
        Candidate(text, place, place + len(text) if place >= 0 else -1, 1 / len(candidates), score, 0.0)
        for text, place, score in candidates
    )
    best = nbest[chosen]
    return Prediction("q", best.text, best.char_start, best.char_end, kind, best.start_logit, nbest)


def test_spans_of_all_documents_compete_by_their_scores():
    first, second = _prediction(("甲", 3, 1.0), ("乙", 0, 0.0)), _prediction(("丙", 2, 4.0), ("丁", 1, 2.0))
    answer, documents = pooled([first, second], OPTIONS)
    assert [(c.text, document) for c, document in zip(answer.nbest, documents, strict=True)] == [
        ("丙", 1), ("丁", 1), ("甲", 0)
    ]  # fmt: skip
    assert (answer.text, answer.char_start, answer.kind) == ("丙", 2, "span")
    total = sum(math.exp(score) for score in (4, 2, 1))
    assert [c.probability for c in answer.nbest] == pytest.approx([math.exp(s) / total for s in (4, 2, 1)])


def test_there_is_no_answer_only_where_no_document_has_one():
    sure_of_none = _prediction(("", -1, 9.0), ("甲", 3, 1.0), kind="unknown")
    has_one = _prediction(("丙", 2, 4.0), ("", -1, 2.0))
    answer, documents = pooled([sure_of_none, has_one], OPTIONS)
    assert (answer.text, answer.kind, documents[0]) == ("丙", "span", 1)
    assert [c.text for c in answer.nbest] == ["丙", "", "甲"]
    hardly = _prediction(("", -1, 5.0), ("丙", 2, 4.0), kind="unknown")
    answer, _ = pooled([sure_of_none, hardly], OPTIONS)
    assert (answer.text, answer.kind) == ("", "unknown")
    answer, _ = pooled([sure_of_none, hardly], DecodeOptions(n_best_size=3, null_score_diff_threshold=1.5))
    assert answer.text == "丙"


def test_a_document_without_any_span_says_nothing_of_the_others():
    nothing = _prediction(("", -1, 0.0))  # as where a text is empty; its logits are none
    some = _prediction(("丙", 2, -7.0))
    assert pooled([nothing, some], OPTIONS).prediction.text == "丙"
    assert pooled([nothing, nothing], OPTIONS).prediction.text == ""


def test_several_spans_of_a_document_compete_as_one_answer_and_stay_apart():
    """Joined they have no place; that says nothing of there being no answer."""
    parts = replace(_prediction(("甲丙", -1, 5.0), ("丁", 1, 2.0), ("", -1, -3.0), kind="spans"), value=["甲", "丙"])
    other = _prediction(("乙", 0, 4.0), ("", -1, -2.0))
    answer, documents = pooled([other, parts], OPTIONS)
    assert (answer.text, answer.kind, answer.value, documents[0]) == ("甲丙", "spans", ["甲", "丙"], 1)
    assert [c.text for c in answer.nbest] == ["甲丙", "乙", "丁"]
    surer = _prediction(("乙", 0, 6.0), ("", -1, -2.0))
    answer, _ = pooled([surer, parts], OPTIONS)
    assert (answer.text, answer.kind, answer.value) == ("乙", "span", None)


def test_evidence_is_that_of_the_document_that_answers():
    first = replace(_prediction(("甲", 3, 1.0)), value={"answer": "甲", "evidence": "甲。"})
    second = replace(_prediction(("丙", 2, 4.0)), value={"answer": "丙", "evidence": "丙。"})
    assert pooled([first, second], OPTIONS).prediction.value == {"answer": "丙", "evidence": "丙。"}


def _said(prediction, **changes):
    options = {"question_cut": False, "n_best": 5, "min_confidence": 0.0, "temperature": 1.0, **changes}
    return result_of(Question("谁？", "甲"), Pooled(prediction, (0,) * len(prediction.nbest)), [], **options)


def test_a_text_that_says_that_there_is_no_answer_is_none():
    """dureader_checklist says "no answer", CAIL2020 "unknown": words of the data set, not of the document."""
    nbest = _prediction(("no answer", -1, 5.0), ("甲", 0, 1.0), kind="unknown")
    said = _said(replace(nbest, value={"answer": "no answer"}))
    assert (said.answered, said.text, said.kind, said.value) == (False, "", "unknown", None)
    assert said.n_best[0].text == "no answer" and said.confidence == said.n_best[0].confidence


def test_what_is_all_that_was_found_is_as_sure_as_the_least_sure_of_it():
    nbest = tuple(Candidate(text, place, place + 2, share, 0.0, 0.0) for text, place, share in
                  (("小猫", 0, 0.9), ("北京", 4, 0.8)))  # fmt: skip
    value = [{"type": "LOC", "char_start": 4, "char_end": 6, "text": "北京"}]
    found = Prediction("q", "PER 0-2 小猫; LOC 4-6 北京", -1, -1, "entities", -0.3, nbest, value)
    said = _said(found, gathers=True, n_best=1)
    assert (said.answered, said.confidence, said.value) == (True, 0.8, value)
    assert [(each.text, each.confidence) for each in said.n_best] == [("小猫", 0.9)]
    assert not _said(found, gathers=True, min_confidence=0.85).answered
