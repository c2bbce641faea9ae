"""What both frameworks answer, held against each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from experiment.inputs.data import Data
from experiment.parity.compare import Part, StageRow, Tolerances, row
from experiment.parity.observe import FRAMEWORKS
from preprocess.batch import unpadded
from preprocess.types import Outputs
from tasks.core.prediction import DecodeOptions, Prediction
from tasks.core.task import Task

#: How far apart the scores of answers as good as each other may be, in units of what logits may differ by.
_ROUNDING = 0.01


@dataclass
class Answers:
    """Decodes what both frameworks output for a data file, and compares texts and scores.

    Args:
        task: decodes and scores.
        data: the questions and their windows.
        options: of the decoder.
        tolerances: for the precision that the logits were computed in.
        scores: framework -> metric -> percent, once judged; empty if the questions have no answers.
    """

    task: Task
    data: Data
    options: DecodeOptions
    tolerances: Tolerances
    scores: dict[str, dict[str, float]] = field(default_factory=dict)

    def judge(self, first: list[Outputs], second: list[Outputs]) -> Iterator[StageRow]:
        """Yield the rows of the texts and of the scores."""
        examples, features = self.data.examples, self.data.features
        places = ([unpadded(features, batch) for batch in outputs] for outputs in (first, second))
        decoded = [self.task.problem.decode(examples, features, outputs, self.options) for outputs in places]
        first_answers, second_answers = decoded
        ours, theirs = ({id: self.task.answer(one) for id, one in answers.items()} for answers in decoded)
        near = _ROUNDING * self.tolerances.logits
        for id in ours:
            if ours[id] != theirs[id] and _is_tie(first_answers[id], second_answers[id], near):
                theirs[id] = ours[id]
        different = [id for id in ours if ours[id] != theirs[id]]
        allowed = float(math.floor(self.tolerances.answers * len(ours)))
        example = next(iter(different), "")
        yield row("predictions", [Part(example, float(len(different)), float(len(ours)), allowed)])
        if any(example.answers for example in examples):
            scores = [dict(self.task.score(examples, answers).values) for answers in (ours, theirs)]
            self.scores.update(zip(FRAMEWORKS, scores, strict=True))
            yield row("scores", [self._score(name, *(values[name] for values in scores)) for name in scores[0]])

    def _score(self, name: str, ours: float, theirs: float) -> Part:
        return Part(name, abs(ours - theirs), max(abs(ours), abs(theirs)), self.tolerances.scores)


def _is_tie(ours: Prediction, theirs: Prediction, near: float) -> bool:
    """Say whether two different answers are as good as each other to one of the frameworks, to within rounding."""
    for prediction, other in ((ours, theirs), (theirs, ours)):
        scores = {candidate.text: candidate.start_logit + candidate.end_logit for candidate in prediction.nbest[::-1]}
        if abs(scores.get(prediction.text, math.inf) - scores.get(other.text, -math.inf)) <= near:
            return True
    return False
