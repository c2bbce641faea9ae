"""What kind of answer a task asks for, as a value: everything between examples and predictions but the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import Batch, Example, FeatureSet, HeadSpec, Outputs
from tasks.core.prediction import DecodeOptions, Prediction, Scorer


class Problem(Protocol):
    """How examples become windows and targets, what the model must say of them, and how that becomes predictions.

    A problem knows no framework, and no framework knows a problem: `head` is all that they have in common.
    """

    @property
    def head(self) -> HeadSpec:
        """What the model must say."""

    @property
    def name(self) -> str:
        """Names the problem and all its parameters that `encode` depends on, for the cache's keys."""

    def encode(
        self,
        examples: Sequence[Example],
        targets: Sequence[Any],
        tokenizer: Tokenizer,
        *,
        transform: TextTransform | None = None,
        **windows: Any,
    ) -> FeatureSet:
        """Cut examples into windows, with their targets.

        Args:
            examples: E examples.
            targets: what the task's `targets` gave for each; None for nothing.
            tokenizer: makes the pieces.
            transform: derives what is tokenised from the published texts.
            **windows: "max_seq_length" and the like, see `preprocess.windows.cut_windows`.

        Raises:
            DataError: if a parameter is impossible for these examples, or a target is none of this problem.
        """

    def decode(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Prediction]:
        """Return the prediction of every question, by id, in the order of the examples.

        Args:
            examples: the examples that `features` was encoded from, in the same order.
            features: W windows.
            outputs: batches that hold every window once, in any order.
            options: of the search.

        Raises:
            DataError: if values are not finite, or a window is missing or comes twice.
        """

    def best_answers(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, str]:
        """Return the text of every prediction of `decode`, by id: what a metric reads, and faster where it can."""

    def chance(self, features: FeatureSet) -> float:
        """Return the loss of a model that knows nothing."""


@runtime_checkable
class Drawing(Protocol):
    """A problem whose batches are drawn: what a model is to guess of a window is left to chance, each time anew."""

    def drawn(self, batch: Batch, words: Sequence[int]) -> Batch:
        """Return a batch of `preprocess.batch.collate` as a model is given it.

        Args:
            batch: B windows.
            words: numbers of 0 or more; what is drawn of a window is a function of them and its index alone.
        """


@runtime_checkable
class PartlyAnswered(Protocol):
    """A problem with windows that hold no answer, and are learned from all the same."""

    def answered(self, features: FeatureSet) -> NDArray[np.bool_] | None:
        """Return which windows hold an answer, bool [W]: the loss of the others says little about the answers.

        None where that can't be told after all, as by a problem that leaves it to another one.
        """


@runtime_checkable
class Gathers(Protocol):
    """A problem whose answer is all of its list, not the best of it, so that no probability of it is known."""

    gathers: ClassVar[bool]


@runtime_checkable
class Tunable(Protocol):
    """A problem with decoding options that can be chosen by their score."""

    def tune(
        self,
        examples: Sequence[Example],
        features: FeatureSet,
        outputs: Sequence[Outputs],
        options: DecodeOptions,
        scorer: Scorer,
    ) -> DecodeOptions:
        """Return the options that score best on some outputs."""
