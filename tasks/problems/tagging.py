"""Pieces of the text, each of a type: a tag per token says where one begins and goes on.

What is predicted is a slice of the published text, from the first character of a chunk's first piece to the last one
of its last. Where windows overlap, a piece has the tag of the window in which it has most context.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.tags import OUTSIDE, chunks
from preprocess.template import BERT
from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import NO_TARGET, Answer, Example, FeatureSet, HeadSpec, Output, Outputs
from preprocess.windows import cut_windows
from tasks.core.entities import Entity, entities_text
from tasks.core.prediction import Candidate, DecodeOptions, Prediction
from tasks.problems.piece_values import Pieces, watched
from tasks.problems.window_values import check_each_once

#: What the model says of a token: a logit per tag.
MARK = "mark"
_NOTHING = Candidate("", -1, -1, 1.0, 0.0, 0.0)
#: Number and probability of a token's likeliest tag.
_BEST = np.dtype([("tag", np.int64), ("share", np.float64)])


@dataclass(frozen=True)
class TagProblem:
    """The answer is any number of pieces of the context, which don't overlap.

    Args:
        types: of the pieces, in the order of the model's outputs.
    """

    types: tuple[str, ...]
    gathers: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The problem, and the types that tokens are tagged with."""
        return f"tags {' '.join(self.types)}"

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags, in the order of the logits."""
        return (OUTSIDE, *(f"{prefix}-{kind}" for kind in self.types for prefix in "BI"))

    @property
    def head(self) -> HeadSpec:
        """A logit per tag for each token."""
        return HeadSpec((Output(MARK, reads="token", size=len(self.tags), loss="tag", drops=True),))

    def encode(
        self,
        examples: Sequence[Example],
        targets: Sequence[Sequence[Answer] | None],
        tokenizer: Tokenizer,
        *,
        transform: TextTransform | None = None,
        **windows: Any,
    ) -> FeatureSet:
        """Cut texts into windows and tag their pieces; see `Problem.encode`.

        A target is all pieces of an example. The tokens that are no piece of the text, and pieces without a character
        of it (such as a lone "▁"), have none; nor has an example whose target is None.
        """
        windows["template"] = windows.get("template", BERT).alone()
        texts = [""] * len(examples), [example.context for example in examples]
        features = cut_windows(*texts, tokenizer, transform=transform, **windows)
        pieces = Pieces(features, len(examples))
        tags, counts = self._tag_pieces(pieces, targets)
        return features.with_targets(self.head, {MARK: pieces.to_tokens(tags, NO_TARGET)}, counts)

    def _tag_pieces(
        self, pieces: Pieces, targets: Sequence[Sequence[Answer] | None]
    ) -> tuple[NDArray[np.int16], dict[str, int]]:
        """Return the tag of every piece of every example, and counts for the report."""
        found = [(i, answer) for i, answers in enumerate(targets) for answer in answers or () if answer.located]
        unknown = sorted({answer.kind for _, answer in found} - set(self.types))
        if unknown:
            raise DataError(f"type {unknown[0]!r} is not one of {', '.join(self.types)}; give the task's types")
        found.sort(key=lambda item: (item[0], item[1].char_start))
        example = np.array([i for i, _ in found], np.int64)
        places = np.array([(answer.char_start, answer.char_end) for _, answer in found], np.int64).reshape(-1, 2)
        aligned = pieces.find(example, *places.T)
        tags = np.zeros(pieces.base[-1], np.int16)
        n_shared = 0
        for (_, answer), first, last in zip(found, aligned.token_start, aligned.token_end, strict=True):
            if first < 0:
                continue
            own = tags[first : last + 1]
            # A piece that crosses the border of two answers belongs to the first.
            free = own == 0
            n_shared += not free.all()
            begin = 1 + 2 * self.types.index(answer.kind)
            own[free] = begin + 1
            if free.any():
                own[free.argmax()] = begin
        for i, answers in enumerate(targets):
            if answers is None:
                tags[pieces.base[i] : pieces.base[i + 1]] = NO_TARGET
        tags[pieces.empty] = NO_TARGET
        counts = {
            "target_span": len(found),
            "without_target": sum(answers is None for answers in targets),
            "target_widened": int(np.count_nonzero(aligned.widened)),
            "target_sharing_a_piece": n_shared,
            "target_without_piece": int(np.count_nonzero(aligned.token_start < 0)),
        }
        return tags, counts

    def chance(self, features: FeatureSet) -> float:
        """Return the loss of a model that finds all tags equally likely."""
        return float(np.log(len(self.tags)))

    def decode(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Prediction]:
        """Return all entities of every example as one answer; its list has them one by one, in order.

        An entity's probability is that of its least sure tag. The score is the logarithm of that of all tags.
        """
        pieces = Pieces(features, len(examples))
        best, share = self._best_tags(features, pieces, outputs)
        tags = np.array(self.tags)[best]
        found = {}
        for i, example in enumerate(examples):
            own = slice(pieces.base[i], pieces.base[i + 1])
            kept = ~pieces.empty[own]
            spans, shares = pieces.spans[own][kept].tolist(), share[own][kept]
            entities, candidates = [], []
            for kind, first, last in chunks(tags[own][kept].tolist()):
                entity = _without_blanks(example.context, Entity(kind, spans[first][0], spans[last - 1][1]))
                least = float(shares[first:last].min())
                text = example.context[entity.char_start : entity.char_end]
                entities.append(entity)
                candidates.append(Candidate(text, *entity[1:], least, float(np.log(least)), 0.0))
            text, score = entities_text(example.context, entities), float(np.log(shares).sum())
            pairs = zip(entities, candidates, strict=True)
            value = [{**entity._asdict(), "text": candidate.text} for entity, candidate in pairs]
            nbest = tuple(candidates) or (_NOTHING,)
            found[example.id] = Prediction(example.id, text, -1, -1, "entities", score, nbest, value)
        return found

    def best_answers(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, str]:
        """Return the entities of every example, as one line each."""
        return {id: found.text for id, found in self.decode(examples, features, outputs, options).items()}

    def _best_tags(
        self, features: FeatureSet, pieces: Pieces, outputs: Iterable[Outputs]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return number and probability of the likeliest tag of every piece of every example."""
        tokens = np.zeros(len(features.input_ids), _BEST)
        windows = [np.zeros(0, np.int32)]
        windows += [np.asarray(batch.window) for batch in watched(outputs, features, MARK, _best, tokens)]
        check_each_once(windows, len(features))
        found = pieces.from_tokens(tokens)
        return found["tag"], found["share"]


def _best(values: NDArray[np.float32]) -> NDArray[Any]:
    """Return the likeliest of the tags of n tokens, `_BEST` [n], given their logits, float32 [n, tags]."""
    logits = values.astype(np.float64)
    found = np.zeros(len(logits), _BEST)
    found["tag"] = logits.argmax(axis=1)
    found["share"] = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    return found


def _without_blanks(context: str, entity: Entity) -> Entity:
    """Leave out white space at the ends, which some tokenizers count to the piece beside it."""
    kind, start, end = entity
    text = context[start:end]
    return (
        Entity(kind, start + len(text) - len(text.lstrip()), start + len(text.rstrip())) if text.strip() else entity
    )
