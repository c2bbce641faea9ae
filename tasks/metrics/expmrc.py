"""ExpMRC's metric: the answer, the evidence, and the product of both.

Source: `eval_expmrc.py` of ymcui/expmrc. It segments as CMRC2018's does, before it lower-cases; F1 is that of bags of
tokens, without English articles and punctuation. docs/metrics.md says how words are split without punkt's model.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from preprocess.base.errors import DataError
from tasks.core.prediction import Score
from tasks.metrics.gold import require_questions
from tasks.metrics.segment import PUNCTUATION, split_words

_ALONE = rf"\u4e00-\u9fa5{re.escape(PUNCTUATION)}"
#: A Chinese character or a listed mark is a token; the runs between them are split into words.
_RUN = re.compile(rf"([{_ALONE}])|[^{_ALONE}]+")
#: Here … counts as a mark of its own, which it does not where a text is segmented.
_DROPPED = frozenset((*string.punctuation, *PUNCTUATION, "…", "a", "an", "the"))


@lru_cache(maxsize=1 << 14)
def bag(text: str) -> Counter[str]:
    """Return how often each token of a text occurs."""
    found: list[str] = []
    for run in _RUN.finditer(text.strip()):
        found += [run[0]] if run[1] else split_words(run[0])
    return Counter(token.lower() for token in found if token not in _DROPPED)


def bag_f1(texts: Sequence[object], prediction: object) -> float:
    """Return the best F1 (0-1) over the texts; a text and a prediction without tokens are equal."""
    given = bag(str(prediction))
    return max(_f1(bag(str(text)), given) for text in texts)


def _f1(right: Counter[str], given: Counter[str]) -> float:
    if not right or not given:
        return float(right == given)
    return 2 * (right & given).total() / (right.total() + given.total())


class ExpmrcScorer:
    """The metric over one gold file: "answer", "evidence" and "overall", the mean product of the two, in percent.

    Args:
        evidences: question id to the texts of all annotators' evidence.
        score_answer: question id and predicted answer to 0-1.

    Raises:
        DataError: there is no question, or one has no evidence.
    """

    def __init__(self, evidences: Mapping[str, Sequence[str]], score_answer: Callable[[str, object], float]) -> None:
        """Keep the gold."""
        require_questions(evidences)
        without = [id for id, texts in evidences.items() if not texts]
        if without:
            raise DataError(
                f"{len(without)} of {len(evidences)} questions have no evidences (first: {without[0]}); "
                "score against a file of ExpMRC."
            )
        self._evidences, self._score_answer = evidences, score_answer

    def __call__(self, predictions: Mapping[str, Any]) -> Score:
        """Return the score of predictions; ids of no question are ignored.

        Args:
            predictions: question id to {"answer": …, "evidence": text}, or to an answer without evidence.
        """
        per_example = {}
        for id, texts in self._evidences.items():
            prediction = predictions.get(id)
            parts = prediction if isinstance(prediction, dict) else {"answer": prediction, "evidence": ""}
            answer = self._score_answer(id, parts["answer"]) if id in predictions else 0.0
            evidence = bag_f1(texts, parts["evidence"]) if id in predictions else 0.0
            per_example[id] = {"answer": answer, "evidence": evidence, "overall": answer * evidence}
        n = len(per_example)
        values = {
            name: 100.0 * sum(scores[name] for scores in per_example.values()) / n
            for name in ("answer", "evidence", "overall")
        }
        return Score(values, per_example, n, n - len(per_example.keys() & predictions.keys()))
