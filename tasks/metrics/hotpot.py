"""HotpotQA's metric as CAIL2020 has it: answer, supporting facts, and both together.

Source: `ydlj/evaluate/evaluate.py` of china-ai-law-challenge/CAIL2020. It is HotpotQA's `hotpot_evaluate_v1.py` but
for two rules: F1 counts characters, not words, and the answers that are no spans are yes, no and unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from preprocess.base.errors import DataError
from tasks.core.prediction import Score
from tasks.metrics.gold import require_questions
from tasks.metrics.squad import normalise

#: Answers that have nothing in common with any other.
_WHOLE = ("yes", "no", "unknown")
_MEASURES = ("em", "f1", "prec", "recall")
#: What the values of the parts are called, before the name of the measure.
_PREFIXES = {"answer": "", "sp": "sp_", "joint": "joint_"}

#: Title of a document and number of a sentence in it.
Fact = tuple[str, int]
_Values = tuple[float, float, float, float]
_ZERO: _Values = (0.0, 0.0, 0.0, 0.0)


def answer_values(gold: object, prediction: object) -> _Values:
    """Return exact match, F1, precision and recall (0-1) of an answer."""
    right, given = normalise(gold), normalise(prediction)
    exact = float(right == given)
    common = (Counter(right) & Counter(given)).total()
    if not common or not exact and (right in _WHOLE or given in _WHOLE):
        return exact, 0.0, 0.0, 0.0
    return exact, *_f1(common / len(given), common / len(right))


def fact_values(gold: Collection[Fact], prediction: Collection[Fact]) -> _Values:
    """Return exact match, F1, precision and recall (0-1) of supporting facts; nothing for nothing is right."""
    right, given = set(gold), set(prediction)
    if right == given:
        return 1.0, 1.0, 1.0, 1.0
    common = len(right & given)
    return 0.0, *_f1(common / len(given) if given else 0.0, common / len(right) if right else 0.0)


def _f1(precision: float, recall: float) -> tuple[float, float, float]:
    both = precision + recall
    return 2 * precision * recall / both if both else 0.0, precision, recall


def _joint(answer: _Values, facts: _Values) -> _Values:
    return answer[0] * facts[0], *_f1(answer[2] * facts[2], answer[3] * facts[3])


class HotpotScorer:
    """The metric over one gold file.

    `values` of a score, in percent: "em", "f1", "prec" and "recall" of the answers, and the same of the facts and of
    both together with "sp_" and "joint_" before their names. What a prediction leaves out scores 0.

    Args:
        gold: question id to its answer.
        facts: question id to its supporting facts.

    Raises:
        DataError: there is no question, or one without an answer or facts.
    """

    def __init__(self, gold: Mapping[str, object], facts: Mapping[str, Collection[Fact]]) -> None:
        """Keep the gold."""
        require_questions(gold)
        without = [id for id in gold if id not in facts]
        if without:
            raise DataError(
                f"{len(without)} of {len(gold)} questions have no supporting facts (first: {without[0]}); add them, "
                "an empty list where there are none."
            )
        self._gold, self._facts = gold, facts

    def __call__(self, predictions: Mapping[str, Any]) -> Score:
        """Return the score of predictions; ids of no question are ignored.

        Args:
            predictions: question id to {"answer": text, "sp": [[title, number], …]}, either of which may be missing,
                or to the text of the answer alone.
        """
        per_example = {}
        for id, gold in self._gold.items():
            prediction = predictions.get(id, {})
            parts = prediction if isinstance(prediction, dict) else {"answer": prediction}
            answer = answer_values(gold, parts["answer"]) if "answer" in parts else _ZERO
            facts = fact_values(self._facts[id], _facts(parts["sp"])) if "sp" in parts else _ZERO
            values = {"answer": answer, "sp": facts, "joint": _joint(answer, facts)}
            per_example[id] = {
                prefix + name: value
                for part, prefix in _PREFIXES.items()
                for name, value in zip(_MEASURES, values[part], strict=True)
            }
        n = len(per_example)
        names = next(iter(per_example.values()))
        totals = {name: 100.0 * sum(values[name] for values in per_example.values()) / n for name in names}
        return Score(totals, per_example, n, n - len(per_example.keys() & predictions.keys()))


def _facts(published: Sequence[Sequence[Any]]) -> list[Fact]:
    return [(title, number) for title, number in published]
