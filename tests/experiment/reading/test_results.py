"""What several documents say as one, how sure it is, and what a temperature makes of that."""

from __future__ import annotations

import math

import pytest

from experiment.reading.results import pooled
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
