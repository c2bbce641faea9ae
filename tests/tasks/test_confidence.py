"""How sure an answer is, the temperature that makes it true, and answers that are held back: computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.core.confidence import (
    ABSTAINED,
    HIGHEST,
    LOWEST,
    Temperatures,
    abstaining,
    all_confidences,
    calibrated,
    confidence_of,
    confidences,
    fit_temperature,
)
from tasks.core.prediction import Candidate, Prediction

SPANS = (Candidate("甲", 0, 1, 0.9, 0.0, 0.0), Candidate("乙", 1, 2, 0.1, 0.0, 0.0))
TWINS = (
    Candidate("YES", -1, -1, 0.4, 2.0, 1.0),
    Candidate("甲", 3, 4, 0.2, 1.0, 0.0),
    Candidate("", -1, -1, 0.4, 2.0, 1.0),
)


def _prediction(nbest, chosen=0, kind="span"):
    best = nbest[chosen]
    return Prediction("q", best.text, best.char_start, best.char_end, kind, 0.0, tuple(nbest))


def test_yes_counts_once_though_it_stands_in_the_list_twice():
    assert confidences(TWINS) == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert confidences(TWINS[1:]) == pytest.approx([1 / 3, 2 / 3])  # an empty answer of its own
    assert confidences([]) == []


def test_an_empty_answer_that_is_as_sure_as_a_span_is_another_one():
    tied = [SPANS[0]._replace(start_logit=2.0), Candidate("", -1, -1, 0.1, 2.0, 0.0)]
    assert confidences(tied) == pytest.approx([0.9, 0.1])


def test_a_temperature_of_two_halves_logits():
    assert confidences(SPANS, 2.0) == pytest.approx([3 / 4, 1 / 4])  # sqrt(9) to 1
    assert confidences(SPANS, 1e-3) == [1.0, 0.0]
    far = [Candidate("甲", 0, 1, 1.0, 0.0, 0.0), Candidate("乙", 1, 2, 0.0, -2000.0, 0.0)]
    assert confidences(far, 2.0) == pytest.approx([1.0, 0.0])


def test_calibration_changes_probabilities_and_nothing_else():
    before = {"q": _prediction(TWINS, kind="yes")}
    after = calibrated(before, 2.0)["q"]
    yes = 2**0.5 / (2**0.5 + 1)
    assert [c.probability for c in after.nbest] == pytest.approx([yes, 1 - yes, yes])
    assert [c._replace(probability=0) for c in after.nbest] == [c._replace(probability=0) for c in TWINS]
    assert (after.text, after.kind) == ("YES", "yes")
    assert confidence_of(after) == pytest.approx(confidence_of(before["q"], 2.0)) == pytest.approx(yes)
    assert calibrated(before, 1.0) == before  # files of a checkpoint that is not calibrated stay as they were


def test_spans_and_null_answers_have_temperatures_of_their_own():
    """TWINS and one more span: YES has 3/4 of the list, the spans 1/6 and 1/12."""
    nbest = (*TWINS[:2], Candidate("乙", 5, 6, 0.1, 0.0, 0.0), TWINS[2])
    nbest = tuple(c._replace(probability=p) for c, p in zip(nbest, (0.75, 1 / 6, 1 / 12, 0.75), strict=True))
    assert confidences(nbest, Temperatures(1.0, 1.0)) == pytest.approx(confidences(nbest))
    # Odds of 3 to 1 become sqrt(3) to 1; spans of 2 to 1 become 4 to 1.
    yes = 3**0.5 / (3**0.5 + 1)
    expected = [yes, 0.8 * (1 - yes), 0.2 * (1 - yes), yes]
    assert confidences(nbest, Temperatures(0.5, 2.0)) == pytest.approx(expected)
    assert confidences(SPANS, Temperatures(2.0, 9.0)) == pytest.approx(confidences(SPANS, 2.0))
    alone = (TWINS[0], TWINS[0]._replace(text="NO", probability=0.1, start_logit=0.5))
    assert confidences(alone, Temperatures(9.0, 2.0)) == pytest.approx([2 / 3, 1 / 3])  # sqrt(0.4) to sqrt(0.1)
    far = (TWINS[0]._replace(probability=1.0), SPANS[0]._replace(probability=0.0))
    assert confidences(far, Temperatures(1e-3, 1e-3)) == pytest.approx([1.0, 0.0])
    assert confidences([], Temperatures(1.0, 2.0)) == []


def test_shares_of_two_temperatures_sum_to_one_and_keep_the_order_of_spans():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shares = rng.dirichlet(np.full(6, 0.4))
        nbest = [
            Candidate(str(i), i if i < 4 else -1, i, float(share), float(i), 0.0) for i, share in enumerate(shares)
        ]
        found = np.array(confidences(nbest, Temperatures(*rng.uniform(0.1, 9.0, 2))))
        assert found.sum() == pytest.approx(1.0)
        assert (np.argsort(found[:4]) == np.argsort(shares[:4])).all()
        assert (np.argsort(found[4:]) == np.argsort(shares[4:])).all()


def test_too_sure_of_null_answers_and_not_sure_enough_of_spans():
    """Of null answers that are 99 % sure 3 of 5 are right, of spans that have 0.4 of their list a half."""
    null = _prediction((TWINS[0]._replace(probability=0.99), SPANS[0]._replace(probability=0.01)), kind="yes")
    spans = [Candidate(str(i), i, i + 1, share, 0.0, 0.0) for i, share in enumerate((0.4, 0.25, 0.25))]
    span = _prediction([*spans, TWINS[0]._replace(probability=0.1)])
    answers, right = [null] * 10 + [span] * 10, [1] * 6 + [0] * 4 + [1] * 5 + [0] * 5
    found = fit_temperature(answers, right)
    assert isinstance(found, Temperatures) and found.null > 5 and found.spans < 1
    assert all_confidences(answers, found) == pytest.approx([0.6] * 10 + [0.5] * 10, abs=0.01)


@pytest.mark.parametrize(("n_right", "temperature"), [(3, 2.0), (2, HIGHEST), (4, LOWEST)])
def test_the_fitted_temperature_says_how_many_answers_are_right(n_right, temperature):
    """Of answers that are 90 % sure three quarters are right: that is a temperature of 2. None can say half."""
    answers = [_prediction(SPANS)] * 4
    found = fit_temperature(answers, [1] * n_right + [0] * (4 - n_right))
    assert found == pytest.approx(temperature, rel=1e-3)
    if n_right == 3:
        assert all_confidences(answers, found) == pytest.approx([0.75] * 4, abs=1e-4)


def test_the_best_of_several_valleys_is_found():
    """An answer that is no first choice gets likelier with the temperature, and less likely again."""
    rng = np.random.default_rng(0)
    answers, right = [], []
    for _ in range(40):
        shares = rng.dirichlet(np.full(5, 0.3))
        nbest = [Candidate(str(i), i, i + 1, float(share), 0.0, 0.0) for i, share in enumerate(shares)]
        answers.append(_prediction(nbest, chosen=int(rng.integers(5))))
        right.append(float(rng.integers(2)))

    def loss(at):
        sure = np.clip(all_confidences(answers, at), 1e-6, 1 - 1e-6)
        return -np.mean(np.where(np.array(right) == 1, np.log(sure), np.log(1 - sure)))

    every = [loss(at) for at in np.exp(np.linspace(np.log(LOWEST), np.log(HIGHEST), 4000))]
    assert loss(fit_temperature(answers, right)) <= min(every) + 1e-6


def test_an_answer_that_is_not_sure_enough_is_left_empty():
    sure, unsure = _prediction(SPANS), _prediction(SPANS, chosen=1)
    empty = _prediction([Candidate("", -1, -1, 0.2, 0.0, 0.0), SPANS[0]], kind="unknown")
    kept = abstaining({"a": sure, "b": unsure, "c": empty}, 0.9)
    assert kept["a"] is sure and kept["c"] is empty
    held = kept["b"]
    assert (held.text, held.char_start, held.char_end, held.kind) == ("", -1, -1, ABSTAINED)
    assert held.nbest == unsure.nbest
    assert abstaining(kept, 0.0) == kept
