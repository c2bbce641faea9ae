"""A class for a text, or for a pair of texts, read from the state of its first window.

A text that does not fit is cut off, as in google-research/bert's `run_classifier.py`, whose results others compare
with; how many were, stands in the counts of the windows ("context_truncated", "query_truncated").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.template import BERT
from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import NO_TARGET, Answer, Example, FeatureSet, HeadSpec, Output, Outputs
from preprocess.windows import cut_windows
from tasks.core.prediction import Candidate, DecodeOptions, Prediction
from tasks.problems.window_values import values_of

#: What the model says of a window: a logit per class.
CATEGORY = "category"


@dataclass(frozen=True)
class ClassProblem:
    """The answer is one of the classes of the data set.

    Args:
        labels: the classes, in the order of the model's outputs.
        pair: whether question and context are classified together; else the context alone.
        sought: class whose probability is the answer that a metric reads, where examples are ranked by it; "" for
            the class itself.
    """

    labels: tuple[str, ...]
    pair: bool = False
    sought: str = ""

    @property
    def name(self) -> str:
        """The problem, and the classes that windows are labelled with."""
        return f"classes of {'pairs' if self.pair else 'texts'}: {' '.join(self.labels)}"

    @property
    def head(self) -> HeadSpec:
        """A logit per class."""
        return HeadSpec((Output(CATEGORY, reads="sequence", size=len(self.labels), loss="class", drops=True),))

    def encode(
        self,
        examples: Sequence[Example],
        targets: Sequence[Answer | None],
        tokenizer: Tokenizer,
        *,
        transform: TextTransform | None = None,
        **windows: Any,
    ) -> FeatureSet:
        """Make a window of every example, labelled with its class; see `Problem.encode`."""
        if not self.pair:
            windows["template"] = windows.get("template", BERT).alone()
        questions = [example.question if self.pair else "" for example in examples]
        contexts = [example.context for example in examples]
        features = cut_windows(questions, contexts, tokenizer, transform=transform, max_windows=1, **windows)
        number = {label: index for index, label in enumerate(self.labels)}
        unknown = sorted({target.text for target in targets if target is not None} - number.keys())
        if unknown:
            raise DataError(f"class {unknown[0]!r} is not one of {', '.join(self.labels)}; give the task's classes")
        label = np.array([NO_TARGET if target is None else number[target.text] for target in targets], np.int16)
        n_without = int(np.count_nonzero(label == NO_TARGET))
        counts = {"target_class": len(label) - n_without, "without_target": n_without}
        return features.with_targets(self.head, {CATEGORY: label[features.example_index]}, counts)

    def chance(self, features: FeatureSet) -> float:
        """Return the loss of a model that finds all classes equally likely."""
        return float(np.log(len(self.labels)))

    def decode(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Prediction]:
        """Return the best class of every example, and the `n_best_size` best of all (all, if one is sought)."""
        logits = self._logits(features, outputs)
        size = len(self.labels) if self.sought else options.n_best_size
        order = np.argsort(-logits, axis=1, kind="stable")[:, :size]
        probabilities = np.exp(_log_softmax(logits))
        found = {}
        for example, ranked, scores, shares in zip(examples, order, logits, probabilities, strict=True):
            nbest = tuple(
                Candidate(self.labels[i], -1, -1, float(shares[i]), float(scores[i]), 0.0) for i in ranked.tolist()
            )
            found[example.id] = Prediction(example.id, nbest[0].text, -1, -1, "class", nbest[0].start_logit, nbest)
        return found

    def best_answers(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, str]:
        """Return what the metric reads of every example: its class, or the probability of the sought one."""
        logits = self._logits(features, outputs)
        if self.sought:
            sought = np.exp(_log_softmax(logits))[:, self.labels.index(self.sought)]
            return {example.id: _number(share) for example, share in zip(examples, sought.tolist(), strict=True)}
        best = logits.argmax(axis=1).tolist()
        return {example.id: self.labels[index] for example, index in zip(examples, best, strict=True)}

    def answer(self, prediction: Prediction) -> str:
        """Return the same of a prediction of `decode`."""
        if not self.sought:
            return prediction.text
        return _number(next(one.probability for one in prediction.nbest if one.text == self.sought))

    def _logits(self, features: FeatureSet, outputs: Iterable[Outputs]) -> NDArray[np.float64]:
        """Return the logits, [E, classes]: there is one window for each example, in order."""
        return values_of(CATEGORY, len(features), outputs).astype(np.float64).reshape(-1, len(self.labels))


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _number(share: float) -> str:
    """Return a probability as text, with all that tells it from others."""
    return repr(share)
