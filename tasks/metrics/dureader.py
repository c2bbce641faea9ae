"""The official metrics of DuReader-robust and DuReader-checklist: exact match, and F1 by longest common substring.

Sources: `evaluate.py` of PaddlePaddle/Research `NLP/DuReader-Robust-BASELINE`; for checklist that of the task in
LIC2021, which is the same and also knows unanswerable questions. Their names say subsequence, their tables are of
substrings. The first reads the first article of a file only, in which its files hold all questions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from tasks.core.prediction import Score
from tasks.metrics.cmrc import SubstringScorer

#: The characters that are dropped. The official list also holds "……", which is no single character: … stays.
_DROPPED = str.maketrans("", "", ":_`，。：？！()“”；’《》·、,「」（）－～『』|")
#: One Chinese character (as BERT's tokenizer counts them) or "=" is a token; so is each whole run between them.
_CHINESE = (
    "=\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\U0002f800-\U0002fa1f"
)
_TOKEN = re.compile(f"[{_CHINESE}]|[^{_CHINESE}]+")

#: What a question without an answer is answered with, in any case of letters.
NO_ANSWER = "no answer"


class DureaderScorer(SubstringScorer):
    """The metric of DuReader-robust; arguments and errors are those of `SubstringScorer`."""

    def _normalise(self, value: object) -> str:
        return str(value).lower().translate(_DROPPED)

    def _tokens(self, text: str, add: bool) -> str:
        return self._encode(_TOKEN.findall(text), add)


class ChecklistScorer(DureaderScorer):
    """The metric of DuReader-checklist: `NO_ANSWER`, and nothing else, is right where there is no answer.

    Args:
        gold: question id to the texts of all its answers.
        impossible: ids of the questions without an answer, whatever texts are given for them.
        types: question id to what the question tests; "" for nothing. Each type's questions are also scored apart.

    Raises:
        DataError: there is no question, or one that has an answer comes without a text.
    """

    def __init__(
        self, gold: Mapping[str, Sequence[object]], impossible: Collection[str], types: Mapping[str, str]
    ) -> None:
        """Segment every distinct gold answer once."""
        super().__init__({id: [NO_ANSWER] if id in impossible else texts for id, texts in gold.items()})
        self._impossible, self._types = frozenset(impossible), types

    def em_f1(self, question: str, prediction: object) -> tuple[float, float]:
        """Return exact match and F1 (0-1) of one prediction."""
        if question not in self._impossible:
            return super().em_f1(question, prediction)
        right = float(str(prediction).lower() == NO_ANSWER)
        return right, right

    def __call__(self, predictions: Mapping[str, object]) -> Score:
        """Return "em" and "f1" over all questions and, as "em_<type>" and "f1_<type>", over those of each type."""
        score = super().__call__(predictions)
        values = dict(score.values)
        for kind in dict.fromkeys(filter(None, map(self._types.get, score.per_example))):
            own = [scores for id, scores in score.per_example.items() if self._types.get(id) == kind]
            values |= {f"{name}_{kind}": 100 * sum(one[name] for one in own) / len(own) for name in ("em", "f1")}
        return Score(values, score.per_example, score.n, score.n_missing)
