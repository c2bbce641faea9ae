"""The metrics of CJRC: the official one of CAIL2019, and the one that the reference system reports.

Sources: `阅读理解/evaluate/evaluate.py` of china-ai-law-challenge/CAIL2019 @ 010ebce, which works like CoQA's; and
`get_eval_with_neg` of ewrfcas/bert_cn_finetune, the CMRC2018 metric with an accuracy per kind of answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal

from tasks.core.prediction import Score
from tasks.metrics.cmrc import CmrcScorer
from tasks.metrics.gold import require_questions

#: The kinds of cases that the official scorer tells apart.
DOMAINS = ("civil", "criminal")


class _Counted(dict[int, int | None]):
    """Code point -> itself if the metric counts it, else None; filled as characters are met."""

    def __missing__(self, code: int) -> int | None:
        # ½ and Ⅳ are numeric and neither a letter nor a digit, so no class of the `re` module fits.
        character = chr(code)
        self[code] = code if character.isalpha() or character.isdigit() else None
        return self[code]


_COUNTED = _Counted()


def normalise(value: object) -> str:
    """Return `str(value)` lower-cased and reduced to letters and digits, as Python's str methods call them."""
    return str(value).lower().translate(_COUNTED)


def bag_f1(answer: str, prediction: str) -> float:
    """Return F1 (0-1) of two normalised texts as bags of characters; 1 if both are empty, 0 if one is."""
    if answer == prediction:
        return 1.0
    common = sum([min(answer.count(c), prediction.count(c)) for c in set(prediction)])
    if not common:
        return 0.0
    precision, recall = common / len(prediction), common / len(answer)
    return 2 * precision * recall / (precision + recall)


def leave_one_out(scores: Sequence[float]) -> float:
    """Return the mean, over leaving out each score in turn, of the best of the others; of one score itself."""
    if len(scores) == 1:
        return scores[0]
    best = max(scores)
    top = scores.index(best)
    second = max(score for place, score in enumerate(scores) if place != top)
    total = 0.0
    for place in range(len(scores)):
        total += second if place == top else best
    return total / len(scores)


def rounded(percent: float) -> float:
    """Return a value as the official scorer prints it: to 0.1, halves away from zero as in Python 2."""
    return float(Decimal(percent).quantize(Decimal("0.1"), ROUND_HALF_UP))


class CjrcScorer:
    """Both metrics over one gold file, which is prepared once.

    `values` of a score, in percent:

    * em, f1: official, overall; em_civil, f1_civil, em_criminal, f1_criminal; each also as the official scorer
      prints it, with "_rounded" behind its name; f1_civil_criminal_mean, which the task page ranks by;
    * reference_em, reference_f1, reference_average: the CMRC2018 metric, best over the answers;
    * yes_accuracy, no_accuracy: share of the gold answers YES (NO) whose question is answered so; unknown_accuracy:
      share of the questions without any gold text that are answered "". Questions without a prediction do not count
      in these three.

    What has nothing to be counted over (a domain without questions, a kind that the gold does not hold) is left out.

    Args:
        gold: question id to the texts of all its answers; none stands for one answer "".
        domains: question id to "civil" or "criminal"; a question with another or no domain counts overall only (the
            official scorer refuses it).

    Raises:
        DataError: there is no question.
    """

    def __init__(self, gold: Mapping[str, Sequence[object]], domains: Mapping[str, str]) -> None:
        """Normalise every gold answer once."""
        require_questions(gold)
        self._texts = {question: list(map(str, answers)) or [""] for question, answers in gold.items()}
        letters = {text: normalise(text) for answers in self._texts.values() for text in set(answers)}
        self._normalised = {question: [letters[text] for text in texts] for question, texts in self._texts.items()}
        self._domains = domains
        # The best over the answers needs each text once.
        self._reference = CmrcScorer(
            {question: list(dict.fromkeys(texts)) for question, texts in self._texts.items()}
        )

    def em_f1(self, question: str, prediction: object) -> tuple[float, float]:
        """Return the official exact match and F1 (0-1) of one prediction."""
        text, answers = normalise(prediction), self._normalised[question]
        # Annotators often agree, so answers are compared once each.
        f1 = {answer: bag_f1(answer, text) for answer in dict.fromkeys(answers)}
        if len(f1) == 1:
            return float(answers[0] == text), f1[answers[0]]
        exact = [float(answer == text) for answer in answers]
        return leave_one_out(exact), leave_one_out([f1[answer] for answer in answers])

    def __call__(self, predictions: Mapping[str, object]) -> Score:
        """Return the score of predictions, id to text or anything `str` takes; ids of no question are ignored."""
        official = {id: self.em_f1(id, predictions[id]) if id in predictions else (0.0, 0.0) for id in self._texts}
        reference = self._reference(predictions)
        per_example = {
            id: {"em": em, "f1": f1, "reference_em": of["em"], "reference_f1": of["f1"]}
            for (id, (em, f1)), of in zip(official.items(), reference.per_example.values(), strict=True)
        }
        values = self._official_values(official)
        values |= {f"reference_{name}": value for name, value in reference.values.items()}
        values |= self._kind_accuracies(predictions)
        return Score(values, per_example, reference.n, reference.n_missing)

    def _official_values(self, scores: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        totals = {domain: [0.0, 0.0, 0.0] for domain in (*DOMAINS, "")}
        for question, (em, f1) in scores.items():
            total = totals.get(self._domains.get(question, ""), totals[""])
            total[0] += em
            total[1] += f1
            total[2] += 1.0
        em, f1, n = (a + b + c for a, b, c in zip(*totals.values(), strict=True))
        values = {"em": em / n * 100, "f1": f1 / n * 100}
        for domain in DOMAINS:
            em, f1, n = totals[domain]
            if n:
                values |= {f"em_{domain}": em / n * 100, f"f1_{domain}": f1 / n * 100}
        values |= {f"{name}_rounded": rounded(value) for name, value in values.items()}
        if "f1_civil" in values and "f1_criminal" in values:
            values["f1_civil_criminal_mean"] = (values["f1_civil"] + values["f1_criminal"]) / 2
        return values

    def _kind_accuracies(self, predictions: Mapping[str, object]) -> dict[str, float]:
        names = {"YES": "yes_accuracy", "NO": "no_accuracy", "": "unknown_accuracy"}
        count, correct = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        for question, answers in self._texts.items():
            if question not in predictions:
                continue
            prediction = str(predictions[question])
            # Per answer for YES and NO, per question for the unknown: as the reference system counts.
            for text in [answer for answer in answers if answer in ("YES", "NO")] if any(answers) else [""]:
                count[text] += 1
                correct[text] += prediction == text
        return {name: 100.0 * correct[text] / count[text] for text, name in names.items() if count[text]}
