"""An answer with its evidence: any kind of answer, and beside it a score for each sentence of the context.

A sentence is scored at its first piece: the output reads tokens, and only these have a target. Where windows overlap,
a sentence has the score of the window in which that piece has most context. Where a question has options, each read
in windows of its own, those of the right one are learned from, and those of the chosen one are believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.ranges import Ints, offsets
from preprocess.text.offsets import TextTransform
from preprocess.text.sentences import Sentence, split_sentences
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import NO_TARGET, Example, FeatureSet, HeadSpec, Output, Outputs
from tasks.core.prediction import DecodeOptions, Prediction, Scorer
from tasks.core.problem import PartlyAnswered, Problem
from tasks.problems.kinds import Alternatives, KindProblem
from tasks.problems.piece_values import Pieces, watched

#: Whether a sentence is no evidence, or is.
_EVIDENCE = Output("evidence", reads="token", size=2, loss="tag")

Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Supported:
    """What an example is trained on.

    Args:
        answer: as the problem of the answers takes it; None for nothing.
        sentences: of the context.
        supporting: whether each is evidence; None where that is not known.
    """

    answer: Any
    sentences: tuple[Sentence, ...]
    supporting: tuple[bool, ...] | None


@dataclass(frozen=True)
class EvidenceProblem:
    """An answer and the sentences that say why.

    Evidence are all sentences that are likelier so than not. If there are none, it is the likeliest sentence, unless
    the answer is `absent`.

    Args:
        answer: the problem of the answers.
        value: example, text of the answer and evidence -> what the metric reads, `Prediction.value`.
        absent: text of the answer that needs no evidence: that there is none.
    """

    answer: Problem
    value: Callable[[Example, str, Sequence[Sentence]], Any]
    absent: str | None = None

    @property
    def name(self) -> str:
        """The problem, and that of the answers."""
        return f"evidence, {self.answer.name}"

    @property
    def head(self) -> HeadSpec:
        """What the answers need, and two logits per token."""
        return HeadSpec((*self.answer.head.outputs, _EVIDENCE))

    def encode(
        self,
        examples: Sequence[Example],
        targets: Sequence[Supported | None],
        tokenizer: Tokenizer,
        *,
        transform: TextTransform | None = None,
        **windows: Any,
    ) -> FeatureSet:
        """Cut examples into windows as the answers need them, and label the first piece of each sentence.

        Raises:
            DataError: as the problem of the answers does.
        """
        answers = [None if target is None else target.answer for target in targets]
        features = self.answer.encode(examples, answers, tokenizer, transform=transform, **windows)
        pieces = Pieces(features, len(examples))
        marks = np.full(len(pieces.spans), NO_TARGET, np.int8)
        known = [() if one is None or one.supporting is None else one.sentences for one in targets]
        first = _first_pieces(pieces, known)
        evidence = [flag for one in targets if one is not None for flag in one.supporting or ()]
        # A piece that two sentences begin with is evidence if one of them is.
        np.maximum.at(marks, first[first >= 0], np.array(evidence, np.int8)[first >= 0])
        tokens = pieces.to_tokens(marks, NO_TARGET)
        texts = [None if answer is None else answer.text for answer in answers]
        tokens[np.repeat(~_windows_of(examples, features, texts), features.lengths)] = NO_TARGET
        n_known = sum(target is not None and target.supporting is not None for target in targets)
        counts = {"target_evidence": n_known, "sentences_evidence": sum(evidence)}
        return features.with_targets(self.head, {**features.targets, _EVIDENCE.name: tokens}, counts)

    def chance(self, features: FeatureSet) -> float:
        """Return the loss of a model that knows nothing of the answers, nor which sentences are evidence."""
        return self.answer.chance(features) + float(np.log(_EVIDENCE.size))

    def answered(self, features: FeatureSet) -> NDArray[np.bool_] | None:
        """Return which windows hold an answer, if the problem of the answers says so."""
        return self.answer.answered(features) if isinstance(self.answer, PartlyAnswered) else None

    def decode(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Prediction]:
        """Return the n-best answers of every question, each with the evidence of the best; see `Problem.decode`."""
        odds = np.zeros(len(features.input_ids), np.float32)
        found = self.answer.decode(examples, features, _watch(outputs, features, odds), options)
        values = self._values(examples, features, odds, {id: one.text for id, one in found.items()})
        return {id: replace(one, value=values[id]) for id, one in found.items()}

    def best_answers(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Any]:
        """Return the answer to every question with its evidence: those of `decode`, without the lists."""
        odds = np.zeros(len(features.input_ids), np.float32)
        texts = self.answer.best_answers(examples, features, _watch(outputs, features, odds), options)
        return self._values(examples, features, odds, texts)

    def tune(
        self,
        examples: Sequence[Example],
        features: FeatureSet,
        outputs: Iterable[Outputs],
        options: DecodeOptions,
        scorer: Scorer,
    ) -> DecodeOptions:
        """Return the options that score best, answers and evidence together, where the answers have a threshold."""
        if not isinstance(self.answer, KindProblem):
            return options
        odds = np.zeros(len(features.input_ids), np.float32)
        found = self.answer.alternatives(examples, features, _watch(outputs, features, odds), options)
        span, null = (self._values(examples, features, odds, texts) for texts in (found.span, found.null))
        return self.answer.tuned(Alternatives(span, null, found.difference), options, scorer)

    def _values(
        self, examples: Sequence[Example], features: FeatureSet, odds: NDArray[np.float32], texts: Texts
    ) -> dict[str, Any]:
        """Return what the metric reads, given the log-odds of every token, and the answers by question id."""
        answers = [texts[example.id] for example in examples]
        pieces = Pieces(features, len(examples))
        per_piece = pieces.from_tokens(odds, _windows_of(examples, features, answers))
        sentences = [sentences_of(example) for example in examples]
        first = _first_pieces(pieces, sentences)
        # A sentence without a piece can't be seen.
        scores = np.append(per_piece, -np.inf)[first]
        splits = offsets(np.array([len(own) for own in sentences], np.int64)).tolist()
        values = {}
        for i, (example, text, own) in enumerate(zip(examples, answers, sentences, strict=True)):
            chosen = self._chosen(text, scores[splits[i] : splits[i + 1]])
            values[example.id] = self.value(example, text, [own[number] for number in chosen])
        return values

    def _chosen(self, text: str, scores: NDArray[np.floating]) -> list[int]:
        likely: list[int] = np.flatnonzero(scores > 0).tolist()
        if likely or text == self.absent or not np.isfinite(scores).any():
            return likely
        return [int(scores.argmax())]


def sentences_of(example: Example) -> tuple[Sentence, ...]:
    """Return the sentences of an example's context: those of its file, else what its marks divide."""
    return example.sentences or split_sentences(example.context)


def _first_pieces(pieces: Pieces, sentences: Sequence[Sequence[Sentence]]) -> Ints:
    """Return the first piece of each sentence of each example; -1 where it has none."""
    places = [(i, one.char_start, one.char_end) for i, own in enumerate(sentences) for one in own]
    return pieces.find(*np.array(places, np.int64).reshape(-1, 3).T).token_start


def _windows_of(examples: Sequence[Example], features: FeatureSet, texts: Sequence[str | None]) -> NDArray[np.bool_]:
    """Return which windows read the option that is each example's answer, bool [W]; all where it has no options."""
    number = np.zeros(len(examples), np.int64)
    for i, (example, text) in enumerate(zip(examples, texts, strict=True)):
        options = list(dict.fromkeys(example.options))
        number[i] = options.index(text) if text in options else 0
    chosen: NDArray[np.bool_] = features.option_index == number[features.example_index]
    return chosen


def _watch(outputs: Iterable[Outputs], features: FeatureSet, odds: NDArray[np.float32]) -> Iterable[Outputs]:
    return watched(outputs, features, _EVIDENCE.name, lambda values: values[:, 1] - values[:, 0], odds)
