"""The official SQuAD metrics: exact match and bag-of-words F1, v1.1 and (with unanswerable questions) v2.0.

Source: `evaluate-v1.1.py` and `evaluate-v2.0.py` of rajpurkar/SQuAD-explorer. Their "exact" is called "em" here.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from preprocess.base.errors import DataError
from tasks.core.prediction import Score
from tasks.metrics.gold import require_questions

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise(text: object) -> str:
    """Return a text as it is compared: lower case, no ASCII punctuation, no English articles, single blanks."""
    return " ".join(_ARTICLES.sub(" ", str(text).lower().translate(_PUNCTUATION)).split())


def bag_f1(answer: str, prediction: str) -> float:
    """Return F1 (0-1) of two normalised texts as bags of words; 0 where they share none (both empty: 0)."""
    gold, predicted = answer.split(), prediction.split()
    n_common = (Counter(gold) & Counter(predicted)).total()
    if not n_common:
        return 0.0
    precision, recall = n_common / len(predicted), n_common / len(gold)
    return 2 * precision * recall / (precision + recall)


def _em_f1(answers: Sequence[str], prediction: object, empty_f1: float) -> dict[str, float]:
    """Score against normalised answers, the best one each; `empty_f1` is the F1 of two empty texts."""
    text = normalise(prediction)
    if text in answers:
        return {"em": 1.0, "f1": 1.0 if text else empty_f1}
    return {"em": 0.0, "f1": max(bag_f1(answer, text) for answer in answers)}


def _percent(scores: Sequence[Mapping[str, float]], prefix: str = "") -> dict[str, float]:
    return {prefix + name: 100.0 * sum(score[name] for score in scores) / len(scores) for name in ("em", "f1")}


class SquadScorer:
    """The v1.1 metric over one gold file, normalised once.

    Args:
        gold: question id to the texts of all its answers.

    Raises:
        DataError: there is no question, or one has no answer: v1.1 knows no unanswerable questions.
    """

    def __init__(self, gold: Mapping[str, Sequence[object]]) -> None:
        """Normalise every distinct gold answer."""
        require_questions(gold)
        empty = [question for question, answers in gold.items() if not answers]
        if empty:
            raise DataError(
                f"{len(empty)} of {len(gold)} questions have no gold answer ({_some(empty)}); SQuAD 1.1 has no "
                "unanswerable questions: use the task squad_v2, or a file with an answer to each question."
            )
        self._answers = {question: tuple(dict.fromkeys(map(normalise, texts))) for question, texts in gold.items()}

    def __call__(self, predictions: Mapping[str, object]) -> Score:
        """Return the score of predictions, id to text; a missing one scores 0, ids of no question are ignored."""
        per_example = {
            question: _em_f1(answers, predictions[question], 0.0) if question in predictions else _wrong()
            for question, answers in self._answers.items()
        }
        n_missing = len(per_example) - len(per_example.keys() & predictions.keys())
        return Score(_percent(list(per_example.values())), per_example, len(per_example), n_missing)


class SquadV2Scorer:
    """The v2.0 metric over one gold file, normalised once.

    Args:
        gold: question id to the texts of all its answers; a question without answers is unanswerable, and the right
            prediction for it is one that is empty when normalised.

    Raises:
        DataError: there is no question.
    """

    def __init__(self, gold: Mapping[str, Sequence[object]]) -> None:
        """Normalise every distinct gold answer."""
        require_questions(gold)
        self._answerable = {question: bool(texts) for question, texts in gold.items()}
        # Answers that normalise to nothing count only where a question has no other.
        self._answers = {
            question: tuple(dict.fromkeys(filter(None, map(normalise, texts)))) or ("",)
            for question, texts in gold.items()
        }

    def __call__(
        self,
        predictions: Mapping[str, object],
        na_probs: Mapping[str, float] | None = None,
        na_prob_thresh: float = 1.0,
    ) -> Score:
        """Return the score of predictions.

        Args:
            predictions: id to text; a missing one is wrong, answerable or not; ids of no question are ignored.
            na_probs: id to how surely the question is unanswerable, in any unit; the predictions themselves should
                then all be spans. Adds the best values over all thresholds and the average precisions.
            na_prob_thresh: a prediction whose entry in `na_probs` is above this counts as the empty one.

        Returns:
            "em" and "f1" over all questions; "HasAns_*" and "NoAns_*" over the answerable and the unanswerable ones,
            where there are such; with `na_probs` also "best_*", "best_*_thresh" (in their unit, no percent), and the
            average precisions "pr_em_ap", "pr_f1_ap" and "pr_oracle_ap".

        Raises:
            DataError: a prediction has no entry in `na_probs`, or one that is not a number.
        """
        raw = {
            question: _em_f1(answers, predictions[question], 1.0)
            for question, answers in self._answers.items()
            if question in predictions
        }
        if na_probs is not None:
            _check_na_probs(raw, na_probs)
        per_example: dict[str, dict[str, float]] = {}
        for question, answerable in self._answerable.items():
            if question not in raw:
                per_example[question] = _wrong()
            elif na_probs is not None and na_probs[question] > na_prob_thresh:
                per_example[question] = {"em": float(not answerable), "f1": float(not answerable)}
            else:
                per_example[question] = raw[question]
        values = _percent(list(per_example.values()))
        for prefix, wanted in (("HasAns_", True), ("NoAns_", False)):
            part = [score for question, score in per_example.items() if self._answerable[question] is wanted]
            values |= _percent(part, prefix) if part else {}
        if na_probs is not None:
            # A stable sort, so that equal entries stay in the order of na_probs, as in the original.
            order = sorted((question for question in na_probs if question in raw), key=na_probs.__getitem__)
            for name in ("em", "f1"):
                values |= self._best(name, raw, predictions, na_probs, order)
            if any(self._answerable.values()):
                values |= self._average_precisions(raw, na_probs, order)
        return Score(values, per_example, len(per_example), len(per_example) - len(raw))

    def _best(
        self,
        name: str,
        raw: Mapping[str, Mapping[str, float]],
        predictions: Mapping[str, object],
        na_probs: Mapping[str, float],
        order: Sequence[str],
    ) -> dict[str, float]:
        """Return the best value over the thresholds: at first no prediction counts, then one more after the other."""
        total = best = float(sum(not self._answerable[question] for question in raw))
        threshold = 0.0
        for question in order:
            if self._answerable[question]:
                total += raw[question][name]
            elif str(predictions[question]):
                total -= 1.0
            if total > best:
                best, threshold = total, na_probs[question]
        return {f"best_{name}": 100.0 * best / len(self._answers), f"best_{name}_thresh": threshold}

    def _average_precisions(
        self, raw: Mapping[str, Mapping[str, float]], na_probs: Mapping[str, float], order: Sequence[str]
    ) -> dict[str, float]:
        """Return the areas under precision over recall of the answers; the oracle answers all it can."""
        n_answerable = sum(self._answerable.values())
        hits = {question: {**raw[question], "oracle": 1.0} for question in order if self._answerable[question]}
        values = {}
        for name in ("em", "f1", "oracle"):
            true_positives = recall = area = 0.0
            for rank, question in enumerate(order, start=1):
                true_positives += hits[question][name] if question in hits else 0.0
                # A threshold can only stand between two different entries.
                if rank == len(order) or na_probs[question] != na_probs[order[rank]]:
                    area += true_positives / rank * (true_positives / n_answerable - recall)
                    recall = true_positives / n_answerable
            values[f"pr_{name}_ap"] = 100.0 * area
        return values


def _wrong() -> dict[str, float]:
    return {"em": 0.0, "f1": 0.0}


def _some(questions: Sequence[str]) -> str:
    return ", ".join(questions[:3]) + (", …" if len(questions) > 3 else "")


def _check_na_probs(predicted: Mapping[str, object], na_probs: Mapping[str, float]) -> None:
    missing = [question for question in predicted if question not in na_probs]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(predicted)} predicted questions have no entry in the no-answer probabilities "
            f"({_some(missing)}); give one number per prediction."
        )
    wrong = [q for q in predicted if not isinstance(na_probs[q], int | float) or math.isnan(na_probs[q])]
    if wrong:
        raise DataError(f"{len(wrong)} no-answer probabilities are not numbers ({_some(wrong)}); give numbers.")
