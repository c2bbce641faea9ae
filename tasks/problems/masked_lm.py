"""Masked language modelling: the answer to a text is how well the pieces that were hidden of it are guessed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.masking import Masking, words_of_pieces
from preprocess.ranges import ranges
from preprocess.template import BERT, Template
from preprocess.text.offsets import TextTransform
from preprocess.tokenizers.base import Tokenizer
from preprocess.types import NO_TARGET, PLACES, Batch, Example, FeatureSet, HeadSpec, Output, Outputs, Pieces
from preprocess.windows import cut_windows
from tasks.core.prediction import Candidate, DecodeOptions, Prediction, Score, Scorer

#: Also what checkpoints call the head, in the name maps.
PIECE = "piece"
#: Keeps the draw of what is hidden apart from every other use of the seed.
_HIDING = 0x68696465
#: What selects a checkpoint: minus the loss.
SELECTION = ("log_likelihood",)


class Guesses(NamedTuple):
    """How well hidden pieces were guessed.

    Args:
        hidden: how many there are.
        right: how many were thought the likeliest.
        log_likelihood: sum of the natural logarithms of their probabilities.
    """

    hidden: int
    right: int
    log_likelihood: float


@dataclass(frozen=True)
class MaskedProblem:
    """Texts, cut into windows that follow each other, of which words are hidden.

    Args:
        masking: how.
        watched: yields texts as they are cut into words, which takes a while; whoever looks on counts them.
    """

    masking: Masking
    watched: Callable[[Sequence[str]], Iterable[str]] = iter
    head = HeadSpec((Output(PIECE, reads="vocabulary", size=1, loss="piece"),))

    @property
    def name(self) -> str:
        """Name what the windows depend on: who cuts the words. What is hidden is drawn later."""
        return f"masked words of jieba {metadata.version('jieba')}"

    def encode(
        self,
        examples: Sequence[Example],
        targets: Sequence[Any],
        tokenizer: Tokenizer,
        *,
        transform: TextTransform | None = None,
        template: Template = BERT,
        **windows: Any,
    ) -> FeatureSet:
        """Cut texts into windows; the target of a token is the number of its word.

        Raises:
            DataError: if a parameter is impossible for these texts.
        """
        assert transform is None, "the words are those of the text that is read"
        texts = [example.context for example in examples]
        windows = {"template": template.alone(), **windows}
        features = cut_windows([""] * len(texts), texts, tokenizer, **windows)
        distinct = list(dict.fromkeys(texts))
        pieces = Pieces(np.empty(0, np.uint16), features.piece_spans, features.piece_splits)
        of_piece = words_of_pieces(self.watched(distinct), pieces)
        words = np.full(len(features.input_ids), NO_TARGET, np.int32)
        read = features.piece_splits[features.context_index] + features.piece_start
        lengths = features.doc_length.astype(np.int64)
        words[ranges(features.row_splits[:-1] + features.doc_offset, lengths)] = of_piece[ranges(read, lengths)]
        n_words = int((np.diff(features.piece_splits) > 0).sum() + np.count_nonzero(np.diff(of_piece) > 0))
        return features.with_targets(self.head, {PIECE: words}, {"n_words": n_words})

    def drawn(self, batch: Batch, words: Sequence[int]) -> Batch:
        """Hide words of each window; which ones is a function of some numbers and the window's index."""
        input_ids = batch.inputs["input_ids"].copy()
        n_tokens = batch.inputs["attention_mask"].sum(1)
        shape = len(batch), self.masking.n_hidden(input_ids.shape[1])
        places, targets = np.zeros(shape, np.int32), np.full(shape, NO_TARGET, np.int32)
        for row, (window, ids) in enumerate(zip(batch.window.tolist(), input_ids, strict=True)):
            random = np.random.Generator(np.random.Philox(np.random.SeedSequence([*words, window, _HIDING])))
            hidden, instead = self.masking.draw(ids, batch.targets[PIECE][row], int(n_tokens[row]), random)
            places[row, : len(hidden)] = hidden
            targets[row, : len(hidden)] = ids[hidden]
            ids[hidden] = instead
        inputs = {**batch.inputs, "input_ids": input_ids, PLACES: places}
        return replace(batch, inputs=inputs, targets={PIECE: targets})

    def decode(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, Prediction]:
        """Return the guesses of each text, as JSON; see `Problem.decode`."""
        return {
            id: Prediction(id, text, -1, -1, PIECE, guesses.log_likelihood, (Candidate(text, -1, -1, 1.0, 0.0, 0.0),))
            for id, guesses in self._guesses(examples, features, outputs).items()
            for text in [_text(guesses)]
        }

    def best_answers(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs], options: DecodeOptions
    ) -> dict[str, str]:
        """Return the text of every prediction of `decode`, by id."""
        return {id: _text(guesses) for id, guesses in self._guesses(examples, features, outputs).items()}

    def chance(self, features: FeatureSet) -> float:
        """Return the loss of a model that thinks all pieces equally likely."""
        return math.log(len(self.masking.random_ids))

    def _guesses(
        self, examples: Sequence[Example], features: FeatureSet, outputs: Iterable[Outputs]
    ) -> dict[str, Guesses]:
        sums = np.zeros((3, len(features)))
        n_seen = np.zeros(len(features), np.int64)
        for batch in outputs:
            log_probability, n_likelier = np.moveaxis(batch.values[PIECE].astype(np.float64), -1, 0)
            sums[0, batch.window] = (n_likelier >= 0).sum(1)
            sums[1, batch.window] = (n_likelier == 0).sum(1)
            sums[2, batch.window] = log_probability.sum(1)
            n_seen[batch.window] += 1
        if not (n_seen == 1).all():
            raise DataError("every window must be predicted exactly once")
        if not np.isfinite(sums).all():
            raise DataError("logits are not finite: the model has diverged or overflowed")
        totals = np.stack([np.bincount(features.example_index, row, minlength=len(examples)) for row in sums])
        return {
            example.id: Guesses(int(hidden), int(right), likelihood)
            for example, (hidden, right, likelihood) in zip(examples, totals.T.tolist(), strict=True)
        }


def _text(guesses: Guesses) -> str:
    return json.dumps(guesses._asdict())


def scorer(examples: Sequence[Example]) -> Scorer:
    """Return what sums up the guesses of texts.

    Its values: "log_likelihood", the mean natural logarithm of a hidden piece's probability; "loss", minus that;
    "perplexity", e to the loss; and "accuracy", the percentage of the pieces that were thought the likeliest. A text
    without a guess counts nothing: what was hidden of it is not known.
    """
    ids = [example.id for example in examples]

    def score(predictions: Mapping[str, Any]) -> Score:
        known = _read(ids, predictions)
        n = max(1, sum(guesses.hidden for guesses in known.values()))
        likelihood = sum(guesses.log_likelihood for guesses in known.values()) / n
        values: dict[str, float] = {
            "log_likelihood": likelihood,
            "loss": -likelihood,
            "perplexity": math.exp(min(-likelihood, 700.0)),
            "accuracy": 100 * sum(guesses.right for guesses in known.values()) / n,
        }
        per_example = {id: {"accuracy": one.right / max(1, one.hidden)} for id, one in known.items()}
        return Score(values, per_example, len(ids), len(ids) - len(known))

    return score


def report(examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, Any]:
    """Say in a line what the values of `scorer` are, and of how many pieces."""
    values = scorer(examples)(predictions).values
    hidden = sum(guesses.hidden for guesses in _read([example.id for example in examples], predictions).values())
    line = f"{hidden} hidden pieces of {len(examples)} texts: loss {values['loss']:.4f}, perplexity "
    line += f"{values['perplexity']:.2f}, {values['accuracy']:.1f} % guessed right"
    return {"n_hidden": hidden, **values, "lines": [line]}


def _read(ids: Iterable[str], predictions: Mapping[str, Any]) -> dict[str, Guesses]:
    return {id: Guesses(**json.loads(predictions[id])) for id in ids if id in predictions}


def vocabulary_ids(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return the ids of all pieces that a text may hold: none of a special token, none that no text gets."""
    special = set(tokenizer.special_ids.values())
    return np.array([id for id, token in enumerate(tokenizer.tokens) if token and id not in special], np.int64)
