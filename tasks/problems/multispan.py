"""Several spans: a tag per token beside the start and end of one span, and beside the kinds that are none.

Whether there is an answer in the context, and of which kind one is that is not, is decided as for a single span
(`tasks/problems/kinds.py`). Where there is one, the tags say whether it has several parts: from two on they are the
answer, in the order of the context; else the best start and end are. Start and end are learned from the first part of
the answer that a window holds, tags from all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.joined import JoinedAnswer
from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import NO_TARGET, Answer, Example, FeatureSet, HeadSpec, Output, Outputs
from tasks.core.prediction import Candidate, DecodeOptions, Prediction, Scorer
from tasks.problems.kinds import Alternatives, KindProblem
from tasks.problems.piece_values import Pieces, watched
from tasks.problems.span import END, START, holds_span
from tasks.problems.span_targets import label_spans

#: Outside of all parts, at the first piece of one, and within one.
_OUTSIDE, _BEGIN, _INSIDE = range(3)
_PARTS = Output("bio", reads="token", size=3, loss="tag")
#: What an answer of several spans is called.
SEVERAL = "spans"


@dataclass(frozen=True)
class MultiSpanProblem:
    """The answer is a span of the context, several of them, or of another kind.

    What a metric reads is the list of the parts' texts: `Prediction.value`.

    Args:
        texts: kind to the text that it is answered with; see `KindProblem`.
        objective: metric names whose sum `tune` maximises.
    """

    texts: Mapping[str, str]
    objective: tuple[str, ...] = ("f1",)

    @cached_property
    def _one(self) -> KindProblem:
        return KindProblem(self.texts, self.objective)

    @property
    def name(self) -> str:
        """The problem, and the kinds that windows are labelled with."""
        return f"several spans, {self._one.name}"

    @property
    def head(self) -> HeadSpec:
        """What a single span or another kind needs, and the tags."""
        return HeadSpec((*self._one.head.outputs, _PARTS))

    def encode(
        self,
        examples: Sequence[Example],
        targets: Sequence[Answer | None],
        tokenizer: Tokenizer,
        *,
        transform: TextTransform | None = None,
        **windows: Any,
    ) -> FeatureSet:
        """Cut examples into windows, each labelled with its part of one answer; see `Problem.encode`.

        Tokens outside of the context, and those of an example whose target is None, have no tag.
        """
        parts = [_parts_of(target) for target in targets]
        first = [None if target is None else own[0] for target, own in zip(targets, parts, strict=True)]
        features = self._one.encode(examples, first, tokenizer, transform=transform, **windows)
        labels = dict(features.targets)
        for number in range(1, max(map(len, parts), default=0)):
            _add_labels(features, labels, [own[number] if number < len(own) else None for own in parts])
        tags = Pieces(features, len(examples))
        labels[_PARTS.name] = tags.to_tokens(_tags(tags, parts), NO_TARGET)
        n_several = sum(isinstance(target, JoinedAnswer) for target in targets)
        return features.with_targets(self.head, labels, {"target_several": n_several})

    def chance(self, features: FeatureSet) -> float:
        """Return the loss of a model that finds all positions of a window, all kinds and all tags equally likely."""
        return self._one.chance(features) + float(np.log(_PARTS.size))

    def answered(self, features: FeatureSet) -> NDArray[np.bool_]:
        """Return which windows hold a part of an answer, or are of a kind that says more than that there is none."""
        return self._one.answered(features)

    def decode(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Prediction]:
        """Return the n-best answers of every question, see `KindProblem.decode`.

        An answer of several spans has no place; it stands in the list where the best span stood, with its scores.
        """
        tags = np.zeros(len(features.input_ids), np.int8)
        found = self._one.decode(examples, features, _watch(outputs, features, tags), options)
        several = _tagged(examples, features, tags)
        return {id: _with_parts(prediction, several[id]) for id, prediction in found.items()}

    def best_answers(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Any]:
        """Return the texts of the parts of every answer: those of `decode`, without the lists."""
        return self._alternatives(examples, features, outputs, options).best(options)

    def tune(
        self,
        examples: Sequence[Example],
        features: FeatureSet,
        outputs: Iterable[Outputs],
        options: DecodeOptions,
        scorer: Scorer,
    ) -> DecodeOptions:
        """Return the options with the threshold that scores best, see `KindProblem.tune`."""
        return self._one.tuned(self._alternatives(examples, features, outputs, options), options, scorer)

    def _alternatives(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> Alternatives:
        tags = np.zeros(len(features.input_ids), np.int8)
        found = self._one.alternatives(examples, features, _watch(outputs, features, tags), options)
        several = _tagged(examples, features, tags)
        span = {id: several[id] if len(several[id]) > 1 else [text] for id, text in found.span.items()}
        return Alternatives(span, {id: [text] for id, text in found.null.items()}, found.difference)


def _parts_of(target: Answer | None) -> tuple[Answer, ...]:
    if target is None:
        return ()
    return target.parts if isinstance(target, JoinedAnswer) else (target,)


def _add_labels(
    features: FeatureSet, labels: dict[str, NDArray[np.integer]], targets: Sequence[Answer | None]
) -> None:
    """Label windows without a span with the one of these that they hold."""
    more, _ = label_spans(features, targets, ())
    taken = ~holds_span(replace(features, targets=labels)) & holds_span(replace(features, targets=more))
    for name in labels:
        # A window with a span is of no kind.
        values = more[name] if name in (START.name, END.name) else np.int8(NO_TARGET)
        labels[name] = np.where(taken, values, labels[name]).astype(labels[name].dtype)


def _tags(pieces: Pieces, parts: Sequence[Sequence[Answer]]) -> NDArray[np.int8]:
    """Return the tag of every piece; `NO_TARGET` for those of an example without a target."""
    tags = np.zeros(len(pieces.spans), np.int8)
    for example, own in enumerate(parts):
        if not own:
            tags[pieces.base[example] : pieces.base[example + 1]] = NO_TARGET
    placed = [(example, part) for example, own in enumerate(parts) for part in own if part.located]
    # From left to right: where two parts share a piece, the later one begins there.
    placed.sort(key=lambda item: (item[0], item[1].char_start))
    places = np.array([(i, part.char_start, part.char_end) for i, part in placed], np.int64).reshape(-1, 3)
    found = pieces.find(*places.T)
    for first, last in zip(found.token_start.tolist(), found.token_end.tolist(), strict=True):
        if first >= 0:
            tags[first] = _BEGIN
            tags[first + 1 : last + 1] = _INSIDE
    return tags


def _watch(outputs: Iterable[Outputs], features: FeatureSet, tags: NDArray[np.int8]) -> Iterable[Outputs]:
    return watched(outputs, features, _PARTS.name, lambda values: values.argmax(axis=1).astype(np.int8), tags)


def _tagged(examples: Sequence[Example], features: FeatureSet, tokens: NDArray[np.int8]) -> dict[str, list[str]]:
    """Return the texts of the parts that the tags of all tokens say, by question id."""
    pieces = Pieces(features, len(examples))
    # A piece without a character is no part of an answer and does not divide one.
    kept = np.flatnonzero(~pieces.empty)
    tags = pieces.from_tokens(tokens)[kept]
    example = np.searchsorted(pieces.base, kept, side="right") - 1
    new = np.diff(example, prepend=-1) != 0
    # What goes on where nothing has begun, begins there.
    begins = (tags == _BEGIN) | (tags == _INSIDE) & (new | (np.roll(tags, 1) == _OUTSIDE))
    ends = (tags != _OUTSIDE) & np.append(begins[1:] | new[1:] | (tags[1:] == _OUTSIDE), True)
    texts: dict[str, list[str]] = {one.id: [] for one in examples}
    starts, stops = pieces.spans[kept[begins], 0].tolist(), pieces.spans[kept[ends], 1].tolist()
    for index, start, stop in zip(example[begins].tolist(), starts, stops, strict=True):
        texts[examples[index].id].append(examples[index].context[start:stop])
    return texts


def _with_parts(prediction: Prediction, parts: list[str]) -> Prediction:
    if prediction.kind != "span" or len(parts) < 2:
        return replace(prediction, value=[prediction.text])
    text = "".join(parts)
    chosen = (prediction.char_start, prediction.char_end)
    nbest = list(prediction.nbest)
    place = next(i for i, one in enumerate(nbest) if (one.char_start, one.char_end) == chosen)
    _, _, _, *scores = nbest[place]
    nbest[place] = Candidate(text, -1, -1, *scores)
    return replace(prediction, text=text, char_start=-1, char_end=-1, kind=SEVERAL, nbest=tuple(nbest), value=parts)
