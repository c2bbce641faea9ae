"""Multiple choice: which of a question's options is right; any number of them, another for each question.

Each option is read in windows of its own: the question and the option, then the context. A context that is too long
for one window is read in several, and an option is as good as the best of them: what speaks for an option mostly
stands in one place. The loss pools as the decoding does (`Output`), so a window's score means the same in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import NO_TARGET, Answer, Example, FeatureSet, HeadSpec, Output, Outputs
from preprocess.windows import cut_windows
from tasks.core.prediction import Candidate, DecodeOptions, Prediction
from tasks.problems.window_values import values_of

#: The score of an option, and what its answers and predictions are called.
OPTION = Output("option", reads="sequence", size=1, loss="choice", drops=True)
KIND = OPTION.name


class Scores(NamedTuple):
    """Scores of the distinct options of E questions, ragged.

    Args:
        score: float64 [n_options], those of question i from splits[i] to splits[i + 1], in the order of its options.
        splits: E + 1 of them.
    """

    score: NDArray[np.float64]
    splits: list[int]

    def of_each(self) -> list[NDArray[np.float64]]:
        """Return the scores of each question."""
        return [self.score[first:last] for first, last in pairwise(self.splits)]


@dataclass(frozen=True)
class ChoiceProblem:
    """One of the options in `Example.options` is right."""

    name = "choice"
    head = HeadSpec((OPTION,))

    def encode(
        self,
        examples: Sequence[Example],
        targets: Sequence[Answer | None],
        tokenizer: Tokenizer,
        *,
        transform: TextTransform | None = None,
        **windows: Any,
    ) -> FeatureSet:
        """Cut examples into windows of each option; see `Problem.encode`.

        A question and an option longer than "max_query_length" together lose the beginning of the question: what is
        asked for stands at the end of a Chinese one, and without its option a window says nothing.
        """
        pairs = [(i, option) for i, example in enumerate(examples) for option in distinct(example)]
        asked, n_cut = _asked(examples, pairs, tokenizer, windows.get("max_query_length", 64))
        contexts, example_index = [examples[i].context for i, _ in pairs], [i for i, _ in pairs]
        texts = asked, contexts, tokenizer
        features = cut_windows(*texts, example_index=example_index, transform=transform, **windows)
        return with_options(self.head, features, examples, targets, {"query_truncated": n_cut})

    def decode(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Prediction]:
        """Return the best option of every question, with the `n_best_size` best and their probabilities."""
        scores = option_scores(examples, features, outputs).of_each()
        chosen = [int(values.argmax()) for values in scores]
        return predictions(examples, scores, chosen, options.n_best_size)

    def best_answers(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, str]:
        """Return the text of the best option of every question."""
        scores = option_scores(examples, features, outputs).of_each()
        pairs = zip(examples, scores, strict=True)
        return {example.id: distinct(example)[int(values.argmax())] for example, values in pairs}

    def chance(self, features: FeatureSet) -> float:
        """Return the loss of a model that finds all options of a question equally likely."""
        return choice_chance(features)


def distinct(example: Example) -> tuple[str, ...]:
    """Return the options of a question, equal ones once: nothing tells them apart, and neither does a metric.

    Raises:
        DataError: if it has none.
    """
    if not example.options:
        raise DataError(f"question {example.id!r} has no options to choose from; give a file of the task's layout")
    return tuple(dict.fromkeys(example.options))


def with_options(
    head: HeadSpec,
    features: FeatureSet,
    examples: Sequence[Example],
    targets: Sequence[Answer | None],
    counts: Mapping[str, int],
) -> FeatureSet:
    """Return windows of the distinct options of each example with the targets of `OPTION`.

    Raises:
        DataError: if a target is none of its example's options.
    """
    right = np.full(len(examples), NO_TARGET)
    for index, (example, target) in enumerate(zip(examples, targets, strict=True)):
        if target is not None:
            options = distinct(example)
            if target.text not in options:
                raise DataError(f"question {example.id!r}: the answer {target.text!r} is none of its options")
            right[index] = options.index(target.text)
    target = (features.option_index == right[features.example_index]).astype(np.int8)
    further = np.ones(len(features), bool)
    further[_first_windows(features)] = False
    target[further] = NO_TARGET
    n_targets = int(np.count_nonzero(right != NO_TARGET))
    counts = {"target_option": n_targets, "without_target": len(examples) - n_targets, **counts}
    return features.with_targets(head, {OPTION.name: target}, counts)


def option_scores(examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs]) -> Scores:
    """Return the score of each option: the best of its windows.

    Raises:
        DataError: if values are not finite, or a window is missing or comes twice.
    """
    values = values_of(OPTION.name, len(features), outputs).astype(np.float64)
    first = _first_windows(features)
    score = np.maximum.reduceat(values, first) if len(first) else values
    splits = np.searchsorted(features.example_index[first], np.arange(len(examples) + 1))
    return Scores(score, splits.tolist())


def predictions(
    examples: Sequence[Example], scores: Sequence[NDArray[np.float64]], chosen: Sequence[int], n_best_size: int
) -> dict[str, Prediction]:
    """Return the prediction of every question, by id.

    Args:
        examples: the questions.
        scores: of the distinct options of each.
        chosen: index of each one's answer among them, which need not have the highest score.
        n_best_size: options kept in each list, beside the answer.
    """
    made = {}
    for example, values, answer in zip(examples, scores, chosen, strict=True):
        texts, exponential = distinct(example), np.exp(values - values.max())
        probability = (exponential / exponential.sum()).tolist()
        order = np.argsort(-values, kind="stable").tolist()
        kept = order[:n_best_size] if answer in order[:n_best_size] else [*order[: n_best_size - 1], answer]
        nbest = tuple(Candidate(texts[i], -1, -1, probability[i], float(values[i]), 0.0) for i in kept)
        made[example.id] = Prediction(example.id, texts[answer], -1, -1, KIND, float(values[answer]), nbest)
    return made


def choice_chance(features: FeatureSet) -> float:
    """Return the mean, over the examples, of the logarithm of the number of options."""
    example = features.example_index[_first_windows(features)]
    return float(np.log(np.bincount(example)).mean())


def _first_windows(features: FeatureSet) -> NDArray[np.int64]:
    """Return the first window of each option of each example."""
    example, option = np.diff(features.example_index, prepend=-1), np.diff(features.option_index, prepend=-1)
    return np.flatnonzero((example != 0) | (option != 0))


def _asked(
    examples: Sequence[Example], pairs: Sequence[tuple[int, str]], tokenizer: Tokenizer, most: int
) -> tuple[list[str], int]:
    """Return what stands beside the context of each pair of a question and an option, and how many questions are cut.

    Args:
        examples: the questions.
        pairs: index of the question, and the option.
        tokenizer: counts the pieces.
        most: pieces that question and option have room for.
    """
    questions = tokenizer.encode([example.question for example in examples])
    options = list(dict.fromkeys(option for _, option in pairs))
    n_pieces = dict(zip(options, np.diff(tokenizer.encode(options).splits).tolist(), strict=True))
    texts, cut = [], set()
    for index, option in pairs:
        question, (first, last) = examples[index].question, questions.splits[index : index + 2].tolist()
        room = max(0, most - n_pieces[option])
        if last - first + n_pieces[option] > most:
            cut.add(index)
            question = question[questions.spans[last - room, 0] :] if room else ""
        texts.append(f"{question} {option}")
    return texts, len(cut)
