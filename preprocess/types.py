"""The values that flow through the toolkit.

raw file -> `Example` -> `FeatureSet` -> `Batch` -> `Outputs` -> Prediction -> Score.

Everything here is numpy and the standard library: both frameworks, every task and the cache share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from preprocess.example import Answer as Answer
from preprocess.example import Example as Example

#: The target of a window, or of a token, that an output learns nothing from.
NO_TARGET = -1

#: What an output reads: the state of each token, or the pooled state of the whole window; "given" a position, each
#: token's state beside that of the position's token, or the special token's state beside the mean of all tokens'; or
#: how well the state of each hidden token fits each piece of the vocabulary.
Reads = Literal["token", "sequence", "token_given", "sequence_given", "vocabulary"]
#: What an output's loss is, see `Output`.
Loss = Literal["position", "class", "binary", "tag", "choice", "piece"]
#: What an output with this loss may read.
READ_BY: Mapping[Loss, tuple[Reads, ...]] = {
    "position": ("token", "token_given"),
    "class": ("sequence",),
    "binary": ("sequence_given",),
    "tag": ("token",),
    "choice": ("sequence",),
    "piece": ("vocabulary",),
}
#: The losses of outputs that have a value for each token.
PER_TOKEN: frozenset[Loss] = frozenset({"position", "tag"})
#: The losses whose target may be soft: a distribution over what is chosen among.
MAY_BE_SOFT: frozenset[Loss] = frozenset({"position", "class"})


@dataclass(frozen=True, slots=True)
class Pieces:
    """Tokenised texts, columnar.

    Args:
        ids: integer [n_pieces], all texts one after the other, without special tokens.
        spans: int32 [n_pieces, 2], half-open code-point span of each piece in its own text.
        splits: int64 [n_texts + 1]; text i holds pieces splits[i] to splits[i + 1].
    """

    ids: NDArray[np.integer]
    spans: NDArray[np.int32]
    splits: NDArray[np.int64]


@dataclass(frozen=True)
class FeatureSet:
    """All windows of a data set, columnar and unpadded: what the cache memory-maps and what batches slice.

    W windows hold T tokens; they come from E examples over C distinct contexts with P pieces.
    A window is a question and a part of its context, laid out by a template; positions count from its first token.

    Args:
        input_ids: uint16 or uint32 [T].
        row_splits: int64 [W + 1]; window w holds tokens row_splits[w] to row_splits[w + 1].
        example_index: int32 [W], the example a window belongs to; windows of an example are adjacent and in order.
        option_index: int32 [W], which of its example's pairs of texts a window reads; 0 where there is one.
        context_index: int32 [W], the distinct context that a window reads.
        doc_offset: int32 [W], position of the first context piece.
        doc_length: int32 [W], number of context pieces in the window.
        piece_start: int32 [W], index (within its context) of the window's first context piece.
        max_context: int32 [W, 2], half-open range, relative to doc_offset, of the pieces that have their largest
            context in this window.
        piece_spans: int32 [P, 2], code-point spans of the context pieces in the original context.
        piece_splits: int64 [C + 1], pieces of context c are piece_splits[c] to piece_splits[c + 1].
        targets: output's name -> integer [W], or [T] where each token has a target; see `Output` for what they say.
        soft: output's name -> float32 [T] of a position, [W, classes] of a class: how a window's target is spread,
            see `Soft`. Empty where there are no such.
        meta: JSON-able facts: "max_seq_length", "pad_id", the "template" (see `preprocess.template`), the losses of
            the targets by name under "losses", the counts of the encoding under "counts", and "answer_mask" where
            batches say which tokens may be answers.
    """

    input_ids: NDArray[np.integer]
    row_splits: NDArray[np.int64]
    example_index: NDArray[np.int32]
    option_index: NDArray[np.int32]
    context_index: NDArray[np.int32]
    doc_offset: NDArray[np.int32]
    doc_length: NDArray[np.int32]
    piece_start: NDArray[np.int32]
    max_context: NDArray[np.int32]
    piece_spans: NDArray[np.int32]
    piece_splits: NDArray[np.int64]
    targets: Mapping[str, NDArray[np.integer]]
    meta: Mapping[str, Any]
    soft: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.row_splits) - 1

    def with_targets(
        self, head: HeadSpec, targets: Mapping[str, NDArray[np.integer]], counts: Mapping[str, int]
    ) -> FeatureSet:
        """Return the same windows with what they are trained on, and with further counts."""
        losses = {output.name: output.loss for output in head.outputs}
        meta = {**self.meta, "losses": losses, "counts": {**self.meta["counts"], **counts}}
        if head.answer_mask:
            meta["answer_mask"] = True
        return replace(self, targets=targets, meta=meta)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per window, int64 [W]."""
        return np.diff(self.row_splits)

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Return the names of the array fields, in order; `targets` and `soft` hold further arrays."""
        return tuple(f.name for f in fields(cls) if f.name not in ("targets", "meta", "soft"))


@dataclass(frozen=True, slots=True)
class Batch:
    """B windows padded to one length L, ready for a model.

    Args:
        window: int32 [B], index of each window in its FeatureSet.
        group: int32 [B], the example of each window; those of one example stand together.
        inputs: what the model reads, int32 [B, L] each: "input_ids"; "attention_mask", 1 for a real token and 0 for
            padding; "token_type_ids", the segments of the windows' template; and for a head that asks for it
            "answer_mask", 1 where an answer may begin or end: in the context, and where "no answer" stands.
            Where pieces are hidden, "places", int32 [B, P], the places of these in the padded row.
        targets: output's name -> int32 [B], or [B, L] where each token has a target, or [B, P] where each place of
            "places" has one; positions count in the padded row. An output that is not named is not learned from.
        answered: bool [B], whether a window holds an answer, where a problem tells those from the others.
        soft: output's name -> float32 [B, L] of a position, [B, classes] of a class; see `FeatureSet`. And where a
            teacher's hidden states are matched, these, see `preprocess.base.methods.STATES`.
    """

    window: NDArray[np.int32]
    group: NDArray[np.int32]
    inputs: Mapping[str, NDArray[np.int32]]
    targets: Mapping[str, NDArray[np.int32]]
    answered: NDArray[np.bool_] | None = None
    soft: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.window)

    def take(self, rows: NDArray[np.integer]) -> Batch:
        """Return some of the rows."""
        inputs = {name: column[rows] for name, column in self.inputs.items()}
        targets = {name: column[rows] for name, column in self.targets.items()}
        answered = None if self.answered is None else self.answered[rows]
        soft = {name: column[rows] for name, column in self.soft.items()}
        return Batch(self.window[rows], self.group[rows], inputs, targets, answered, soft)

    def apart(self) -> tuple[Batch, Batch]:
        """Return the batch without the targets of windows that hold no answer, and without those of the others.

        Soft targets are in neither: a window may have any share of an answer.
        """
        assert self.answered is not None
        return self._targeted(self.answered), self._targeted(~self.answered)

    def _targeted(self, rows: NDArray[np.bool_]) -> Batch:
        targets = {
            name: np.where(rows.reshape(-1, *[1] * (column.ndim - 1)), column, NO_TARGET).astype(column.dtype)
            for name, column in self.targets.items()
        }
        return replace(self, targets=targets, soft={})

    def shares(self, n: int, *, whole_groups: bool) -> list[NDArray[np.integer]]:
        """Divide the rows among n devices, as evenly as can be; some may get none.

        Args:
            n: at least 1.
            whole_groups: whether the windows of an example stay together.
        """
        if not whole_groups:
            return np.array_split(np.arange(len(self)), n)
        starts = np.flatnonzero(np.diff(self.group, prepend=-1))
        bounds = [len(self) if not len(part) else int(part[0]) for part in np.array_split(starts, n)]
        return [np.arange(first, last) for first, last in zip(bounds, [*bounds[1:], len(self)], strict=True)]


def n_windows_apart(batches: Sequence[Batch]) -> tuple[int, int]:
    """Return how many windows hold an answer, and how many do not."""
    n_answered = sum(int(np.count_nonzero(batch.answered)) for batch in batches if batch.answered is not None)
    return n_answered, sum(map(len, batches)) - n_answered


#: What every model reads of a batch, and what one reads that scores the vocabulary.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
PLACES = "places"


#: How many targets there are in windows that hold an answer, and in the others, by projection.
Apart = tuple[Mapping[str, int], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Output:
    """Something that a model says of each window, and how that is learned.

    The loss is a mean over what has a target. By its name:

    * "position": one of the window's real tokens is right; the softmax goes over them, the target is its position;
    * "class": one of `size` classes is right; the target is its index;
    * "binary": the window is of a kind or is not; the target is 1 or 0, the value the logarithm of the odds;
    * "tag": each token has one of `size` tags; the targets, one per token, are their indices;
    * "choice": one option of an example is right; the softmax goes over its options, each as good as the best of its
      windows. The target of an option's first window is 1 if it is the right one, else 0; that of its further
      windows, which follow, is `NO_TARGET`;
    * "piece": at each place of the input "places", one piece of the vocabulary is right; the targets, one per place,
      are their ids. In a `FeatureSet` they are the numbers of the words that tokens belong to: what is hidden is
      drawn for each batch.

    Args:
        name: what its values and targets are called.
        reads: "token", values [B, L]; or "sequence", values [B]; with a further axis where `size` is not 1.
            "token_given", values [B, L] given the target of `given` while that is learned from; else [B, L, beams],
            given each of its `beams` best positions, best first and of equals the first (fewer if L is).
            "sequence_given", values [B], given how likely each position of `given` is.
            "vocabulary", values [B, P, pieces of the vocabulary], see also `Outputs`.
        size: values per token, or per window; 1 where the vocabulary is read.
        loss: one of those above.
        projection: outputs of one projection read the same and are rows of one matrix, in order, and the mean of
            their losses counts; "" for a projection of the output's own name.
        weight: what its loss counts.
        among: the tokens that a position competes with: all real "tokens", or the "answers" of the "answer_mask".
        given: the earlier output, a position, that is given.
        beams: how many of its positions are, where its target is not known.
        drops: whether a share of what it reads is dropped while it is learned, as its published programs do.
    """

    name: str
    reads: Reads
    size: int
    loss: Loss
    projection: str = ""
    weight: float = 1.0
    among: Literal["tokens", "answers"] = "tokens"
    given: str = ""
    beams: int = 1
    drops: bool = False

    def __post_init__(self) -> None:
        """Name the projection; a loss that can't be had from what is read is a fault of the problem."""
        if not self.projection:
            object.__setattr__(self, "projection", self.name)
        assert self.reads in READ_BY[self.loss], f"output {self.name}: a {self.loss} is not read from {self.reads}"
        assert self.size == 1 or self.loss in ("class", "tag"), f"output {self.name}: a {self.loss} has one value"
        assert bool(self.given) == self.reads.endswith("_given"), f"output {self.name}: {self.reads} of what?"
        assert not self.given or self.projection == self.name, f"output {self.name}: is read alone"

    @property
    def per_token(self) -> bool:
        """Whether there are values for each token."""
        return self.loss in PER_TOKEN

    def n_targets(self, target: NDArray[np.integer]) -> int:
        """Return how many things have a target, of which the loss is the mean: windows, tokens or examples."""
        return int(np.count_nonzero(target == 1 if self.loss == "choice" else target != NO_TARGET))


@dataclass(frozen=True, slots=True)
class Soft:
    """How much is learned from soft targets, and at which temperature.

    A soft target is a distribution over what an output chooses among, or all zeros where nothing is learned from it;
    one of a smaller sum counts so much less. With weight w and temperature T the loss of an output that has them is
    (1 - w) hard + w T^2 soft, soft being the cross-entropy of the target with the softmax of the values over T. The
    mean of the soft losses is over the sum of the targets.

    Args:
        weight: w, from 0 to 1.
        temperature: T, above 0.
    """

    weight: float
    temperature: float


def soft_name(name: str) -> str:
    """Return what the soft targets of an output are called beside its targets, and a projection's number of them."""
    return f"soft_{name}"


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """What a problem asks of the model, in the order of the model's parameters.

    Args:
        outputs: with names of their own; what is given to one comes before it.
        soft: how soft targets are learned from; None where batches have none.
        dropout: share of what is read by outputs that drop some.
    """

    outputs: tuple[Output, ...]
    soft: Soft | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what can't be computed in order, a fault of the problem."""
        for i, output in enumerate(self.outputs):
            before = {earlier.name for earlier in self.outputs[:i] if earlier.reads == "token"}
            assert not output.given or output.given in before, f"output {output.name}: {output.given} comes first"

    @property
    def projections(self) -> dict[str, tuple[Output, ...]]:
        """The outputs of each projection, by its name, in order."""
        names = dict.fromkeys(output.projection for output in self.outputs)
        return {name: tuple(o for o in self.outputs if o.projection == name) for name in names}

    @property
    def rows(self) -> dict[str, int]:
        """The rows of each projection's own matrix, by its name, in order."""
        named = self.projections.items()
        return {name: sum(o.size for o in outputs) for name, outputs in named if outputs[0].reads != "vocabulary"}

    @property
    def tied(self) -> tuple[str, ...]:
        """The names of the projections whose matrix is the word table."""
        return tuple(name for name, outputs in self.projections.items() if outputs[0].reads == "vocabulary")

    def reads(self, what: Reads) -> bool:
        """Whether an output reads this."""
        return any(output.reads == what for output in self.outputs)

    @property
    def given(self) -> dict[str, str]:
        """What each projection reads that reads something given a position, by its name."""
        return {name: o[0].reads for name, o in self.projections.items() if o[0].given}

    @property
    def answer_mask(self) -> bool:
        """Whether batches have to say which tokens may be answers."""
        return any(output.among == "answers" for output in self.outputs)

    @property
    def whole_groups(self) -> bool:
        """Whether the windows of an example have to be learned from together."""
        return any(output.loss == "choice" for output in self.outputs)

    @property
    def softened(self) -> tuple[str, ...]:
        """The names of the outputs that batches have soft targets of."""
        return tuple(o.name for o in self.outputs if self.soft is not None and o.loss in MAY_BE_SOFT)

    def n_targets(self, batches: Sequence[Batch]) -> dict[str, int]:
        """Return how many targets each projection with a column has, at least 1; soft ones by their rounded sums."""
        first = {name: outputs[0] for name, outputs in self.projections.items()}
        hard = {
            name: max(1, sum(output.n_targets(batch.targets[output.name]) for batch in batches))
            for name, output in first.items()
            if output.name in batches[0].targets
        }
        soft = {
            soft_name(name): max(1, round(sum(float(batch.soft[output.name].sum()) for batch in batches)))
            for name, output in first.items()
            if output.name in self.softened and output.name in batches[0].soft
        }
        return {**hard, **soft}

    def n_targets_apart(self, batches: Sequence[Batch]) -> Apart | None:
        """Return `n_targets` of windows that hold an answer, and of the others; None if they are not told apart."""
        if batches[0].answered is None:
            return None
        answered, others = zip(*(batch.apart() for batch in batches), strict=True)
        return self.n_targets(answered), self.n_targets(others)


def input_names(head: HeadSpec | None) -> tuple[str, ...]:
    """Return which of a batch's inputs a model with this head reads, in order."""
    if head is None:
        return INPUTS
    return (*INPUTS, *(["answer_mask"] if head.answer_mask else []), *([PLACES] if head.tied else []))


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a model says of one batch; batches may come back in any order.

    Args:
        window: int32 [B], index of each row's window in its FeatureSet.
        values: output's name -> float32 [B, L] or [B], with a further axis where its size is not 1 or where several
            positions are given to it, see `Output`; what stands at padding is not to be read. Of
            an output that reads the vocabulary, whose values would fill the memory, [B, P, 2]: the logarithm of the
            probability of each place's target, and how many pieces are likelier; 0 and -1 where there is no target.
    """

    window: NDArray[np.int32]
    values: Mapping[str, NDArray[np.float32]]
