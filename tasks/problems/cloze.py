"""Cloze: which of the candidates belongs in a blank; the blanks of a passage share their candidates.

A window holds a candidate, then the text around the blank, which stands in its middle as far as the text allows. The
model reads the blank as the mask token, which in pretraining stood for what is missing; the passage's other blanks
are three dots, which every vocabulary has as ordinary text: gaps, but not the one that is asked about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.ranges import offsets, ranges
from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import Answer, Example, FeatureSet, HeadSpec, Outputs, Pieces
from preprocess.windows import cut_windows
from tasks.core.prediction import DecodeOptions, Prediction
from tasks.problems.multiple_choice import OPTION, choice_chance, distinct, option_scores, predictions, with_options

#: Stands for the blank that is asked about until it is a piece: no character, so that no text has it.
_GAP = "\ufdd0"
_OTHER_BLANK = "..."
#: What a candidate costs that a blank does not offer: more than any assignment without it.
_NOT_OFFERED = 1e9


@dataclass(frozen=True)
class ClozeProblem:
    """One of the options in `Example.options` belongs in the blank `Example.question` of the context.

    Args:
        blank: pattern of the blanks, as they are written.
        one_to_one: whether no candidate is given to two blanks of a group, unless it is offered twice: the answers
            are those that are likeliest together; else each blank gets its own best candidate.
    """

    blank: str
    one_to_one: bool = False
    head = HeadSpec((OPTION,))

    @property
    def name(self) -> str:
        """The problem, and how blanks are written."""
        return f"cloze {self.blank}"

    def encode(
        self,
        examples: Sequence[Example],
        targets: Sequence[Answer | None],
        tokenizer: Tokenizer,
        *,
        transform: TextTransform | None = None,
        **windows: Any,
    ) -> FeatureSet:
        """Lay a window around the blank for each candidate; see `Problem.encode`."""
        pairs = [(i, option) for i, example in enumerate(examples) for option in distinct(example)]
        texts = list(map(self._text, examples))
        contexts, example_index = [texts[i] for i, _ in pairs], [i for i, _ in pairs]
        features = cut_windows(
            [option for _, option in pairs],
            contexts,
            _GapTokenizer(tokenizer),
            example_index=example_index,
            transform=transform,
            around=[text.index(_GAP) for text in contexts],
            **windows,
        )
        return with_options(self.head, features, examples, targets, {})

    def decode(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Prediction]:
        """Return the candidate of every blank, with the `n_best_size` best and their probabilities."""
        scores = option_scores(examples, features, outputs).of_each()
        return predictions(examples, scores, self._chosen(examples, scores), options.n_best_size)

    def best_answers(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, str]:
        """Return the candidate of every blank."""
        chosen = self._chosen(examples, option_scores(examples, features, outputs).of_each())
        return {example.id: distinct(example)[index] for example, index in zip(examples, chosen, strict=True)}

    def chance(self, features: FeatureSet) -> float:
        """Return the loss of a model that finds all candidates of a blank equally likely."""
        return choice_chance(features)

    def _text(self, example: Example) -> str:
        """Return the context with the blank as `_GAP` and the others as `_OTHER_BLANK`."""

        def written(match: re.Match[str]) -> str:
            return _GAP if match[0] == example.question else _OTHER_BLANK

        text = re.sub(self.blank, written, example.context.replace(_GAP, " "))
        if text.count(_GAP) != 1:
            found = f"{text.count(_GAP)} times" if _GAP in text else "not there"
            raise DataError(
                f"question {example.id!r}: the blank {example.question!r} is expected once in its context, found "
                f"{found}; ask for a blank as the task writes it ({self.blank})"
            )
        return text

    def _chosen(self, examples: Sequence[Example], scores: Sequence[NDArray[np.float64]]) -> list[int]:
        """Return the index of every blank's answer among its distinct candidates."""
        chosen = [int(values.argmax()) for values in scores]
        if not self.one_to_one:
            return chosen
        groups: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            groups.setdefault(example.group or example.id, []).append(index)
        for members in groups.values():
            for index, answer in _assigned([examples[i] for i in members], [scores[i] for i in members]).items():
                chosen[members[index]] = answer
        return chosen


def _assigned(blanks: Sequence[Example], scores: Sequence[NDArray[np.float64]]) -> dict[int, int]:
    """Assign candidates to the blanks of a passage, each as often as it is offered, for the likeliest whole.

    Args:
        blanks: of one passage.
        scores: of the distinct candidates of each.

    Returns:
        index of a blank -> that of its candidate among the distinct ones; where there are more blanks than
        candidates, some blanks have none.
    """
    # scipy.optimize takes a while to import.
    from scipy.optimize import linear_sum_assignment

    # A candidate that is offered twice may be given twice.
    copies: dict[tuple[str, int], int] = {}
    places: list[list[tuple[int, int]]] = []
    for blank in blanks:
        index, seen, own = {text: i for i, text in enumerate(distinct(blank))}, dict[str, int](), []
        for text in blank.options:
            seen[text] = seen.get(text, 0) + 1
            own.append((copies.setdefault((text, seen[text]), len(copies)), index[text]))
        places.append(own)
    cost = np.full((len(blanks), len(copies)), _NOT_OFFERED)
    answer = np.zeros(cost.shape, np.int64)
    for row, (own, values) in enumerate(zip(places, scores, strict=True)):
        log_probability = values - values.max() - np.log(np.exp(values - values.max()).sum())
        columns, indices = map(list, zip(*own, strict=True))
        cost[row, columns], answer[row, columns] = -log_probability[indices], indices
    rows, columns = linear_sum_assignment(cost)
    return {
        row: int(answer[row, column])
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if cost[row, column] < _NOT_OFFERED
    }


class _GapTokenizer:
    """A tokenizer that reads `_GAP` as the mask token, or as the unknown one where there is no mask token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.special_ids: Mapping[str, int] = tokenizer.special_ids
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> Pieces:
        """Tokenise texts, as `Tokenizer.encode`."""
        divided = [text.split(_GAP) for text in texts]
        parts = [part for text in divided for part in text]
        pieces = self._tokenizer.encode(parts)
        n_parts = np.fromiter(map(len, divided), np.int64, len(divided))
        # A gap stands behind each part of a text but its last.
        before_gap = np.ones(len(parts), np.int64)
        before_gap[np.cumsum(n_parts) - 1] = 0
        n_own = np.diff(pieces.splits)
        size, width = n_own + before_gap, np.fromiter(map(len, parts), np.int64, len(parts)) + before_gap
        first, begin = offsets(size), offsets(width)
        text_of_part = np.repeat(np.arange(len(divided)), n_parts)
        text_begin = begin[offsets(n_parts)[:-1]][text_of_part]
        shift = begin[:-1] - text_begin  # of each part in its text
        ids = np.full(first[-1], self.special_ids.get("mask", self.special_ids["unk"]), pieces.ids.dtype)
        spans = np.zeros((first[-1], 2), np.int32)
        own = ranges(first[:-1], n_own)
        ids[own], spans[own] = pieces.ids, pieces.spans + np.repeat(shift, n_own)[:, None]
        gaps = np.flatnonzero(before_gap)
        end = (shift + width)[gaps]
        spans[first[gaps + 1] - 1] = np.stack([end - 1, end], axis=1)
        return Pieces(ids, spans, offsets(np.bincount(text_of_part, size, len(divided)).astype(np.int64)))
