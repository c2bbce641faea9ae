"""The official CMRC2018 metric: exact match, and F1 by longest common substring of segments.

Source: `cmrc2018_evaluate.py` of ymcui/cmrc2018. DRCD is published with the same metric (ymcui/Chinese-XLNet).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preprocess.base.errors import DataError
from tasks.core.prediction import Score
from tasks.metrics.gold import require_questions
from tasks.metrics.segment import NOT_HAN, normalise, split_words

# Stands for every word that no gold answer holds: it can't be part of a common substring.
_UNKNOWN = "\0"
_FIRST_HAN, _N_HAN = 0x4E00, 0x9FA5 - 0x4E00 + 1


def longest_common_substring(a: str, b: str) -> int:
    """Return the length of the longest string that both hold."""
    if len(a) > len(b):
        a, b = b, a
    best = start = 0
    while start + best < len(a):
        # `in` runs at memory speed, so growing the best length by one beats filling a table of all pairs.
        if a[start : start + best + 1] in b:
            best += 1
        else:
            start += 1
    return best


class CmrcScorer:
    """The official metric over one gold file, whose segmentation is kept between calls.

    Args:
        gold: question id to the texts of all its answers; never empty, nor without answers.

    Raises:
        DataError: there is no question, or one has no answer.
    """

    def __init__(self, gold: Mapping[str, Sequence[object]]) -> None:
        """Segment every distinct gold answer once."""
        require_questions(gold)
        unanswered = [question for question, answers in gold.items() if not answers]
        if unanswered:
            raise DataError(
                f"{len(unanswered)} of {len(gold)} questions have no gold answer (first: {unanswered[0]}); "
                "score against a file with answers."
            )
        self._codes: dict[str, str] = {}
        self._gold: dict[str, dict[str, str]] = {}
        for question, answers in gold.items():
            texts = dict.fromkeys(map(normalise, answers))
            self._gold[question] = {text: NOT_HAN.sub(lambda run: self._encode(run[0], True), text) for text in texts}

    def _encode(self, run: str, add: bool) -> str:
        """Return one character per word, so that common substrings of tokens are common substrings of text."""
        words = split_words(run)
        if add:
            for word in words:
                if word not in self._codes:
                    code = len(self._codes) + 1
                    # A Han character is its own code, so words take the code points around that block.
                    self._codes[word] = chr(code if code < _FIRST_HAN else code + _N_HAN)
        return "".join([self._codes.get(word, _UNKNOWN) for word in words])

    def em_f1(self, question: str, prediction: object) -> tuple[float, float]:
        """Return exact match (0 or 1) and F1 (0-1) of one prediction, each the best over the answers."""
        text = normalise(prediction)
        answers = self._gold[question]
        tokens = answers.get(text)
        if tokens is not None:
            # Equal to an answer; one of punctuation only has no token in common with itself.
            return 1.0, float(bool(tokens))
        return 0.0, self._best_f1(answers, NOT_HAN.sub(lambda run: self._encode(run[0], False), text))

    @staticmethod
    def _best_f1(answers: Mapping[str, str], tokens: str) -> float:
        best = 0.0
        for answer in answers.values():
            common = longest_common_substring(answer, tokens)
            if common:
                precision, recall = common / len(tokens), common / len(answer)
                best = max(best, 2 * precision * recall / (precision + recall))
        return best

    def __call__(self, predictions: Mapping[str, object]) -> Score:
        """Return the score of predictions, id to text or anything `str` takes; ids of no question are ignored."""
        per_example: dict[str, dict[str, float]] = {}
        n_missing = 0
        em_sum = f1_sum = 0.0
        for question in self._gold:
            if question in predictions:
                em, f1 = self.em_f1(question, predictions[question])
            else:
                em = f1 = 0.0
                n_missing += 1
            per_example[question] = {"em": em, "f1": f1}
            em_sum += em
            f1_sum += f1
        n = len(per_example)
        em_percent, f1_percent = 100.0 * em_sum / n, 100.0 * f1_sum / n
        values = {"em": em_percent, "f1": f1_percent, "average": (em_percent + f1_percent) / 2}
        return Score(values, per_example, n, n_missing)
