"""Where question, context and special tokens stand in a window, as data: what windows, batches and decoding read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from preprocess.ranges import Ints
from preprocess.types import FeatureSet

QUESTION, CONTEXT = "question", "context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How the windows of a family of models are laid out.

    Args:
        order: what follows what: "question" (at most once), "context" (once), and special tokens by their roles in
            the tokenizer ("cls", "sep").
        segments: token type of each of these.
        padding_side: where short windows are filled up.
        padding_segment: token type of the padding.
        null: the special token, there once, that stands for "no answer" where a span is asked for.
    """

    order: tuple[str, ...] = ("cls", QUESTION, "sep", CONTEXT, "sep")
    segments: tuple[int, ...] = (0, 0, 0, 1, 1)
    padding_side: Literal["left", "right"] = "right"
    padding_segment: int = 0
    null: str = "cls"

    def __post_init__(self) -> None:
        """Take lists, as JSON has them; a template that can't be laid out is a fault of the family."""
        object.__setattr__(self, "order", tuple(self.order))
        object.__setattr__(self, "segments", tuple(self.segments))
        assert len(self.order) == len(self.segments), f"{self}: one segment for each part"
        assert self.order.count(CONTEXT) == 1 >= self.order.count(QUESTION), f"{self}: one context, one question"
        assert self.null in self.special and self.order.count(self.null) == 1, f"{self}: one token for no answer"
        assert self.padding_side in ("left", "right"), f"{self}: padding stands on the left or on the right"

    @property
    def special(self) -> list[str]:
        """The special tokens of a window, by role, in order."""
        return [part for part in self.order if part not in (QUESTION, CONTEXT)]

    @property
    def n_special(self) -> int:
        """How many tokens of a window are special."""
        return len(self.special)

    def starts(self, length: Ints, doc_length: NDArray[np.integer]) -> Ints:
        """Return the position of each part's first token, int64 [parts, W].

        Args:
            length: int64 [W], tokens of the window.
            doc_length: [W], pieces of the context among them.
        """
        sizes = {QUESTION: length - doc_length - self.n_special, CONTEXT: doc_length}
        starts = np.zeros((len(self.order), len(length)), np.int64)
        for index, part in enumerate(self.order[:-1]):
            starts[index + 1] = starts[index] + sizes.get(part, 1)
        return starts

    def token_types(self, starts: Ints, position: NDArray[np.integer]) -> NDArray[np.int8]:
        """Return the token type of each position.

        Args:
            starts: [parts, B], of B windows.
            position: [B, L], or [1, L] where all have the same; outside the window, the result says nothing.

        Returns:
            int8 [B, L], which takes a quarter of int32's time.
        """
        types = np.full((starts.shape[1], position.shape[1]), self.segments[0], np.int8)
        for part in range(1, len(starts)):
            step = self.segments[part] - self.segments[part - 1]
            if step:
                types += np.int8(step) * (position >= starts[part, :, None].astype(position.dtype))
        return types

    def alone(self) -> Template:
        """Return the template of windows that hold a text and no question: `[CLS] text [SEP]` for BERT.

        What stood between question and context is left out with the question. All but the null token is of the first
        segment.
        """
        if QUESTION not in self.order:
            return self
        first, last = sorted((self.order.index(QUESTION), self.order.index(CONTEXT)))
        kept = [*range(first), self.order.index(CONTEXT), *range(last + 1, len(self.order))]
        order = tuple(self.order[place] for place in kept)
        null = self.segments[self.order.index(self.null)]
        return replace(self, order=order, segments=tuple(null if part == self.null else 0 for part in order))

    def as_json(self) -> dict[str, Any]:
        """Return what `Template(**…)` makes the same template of, and JSON keeps as it is."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


#: BERT's windows, and those of all models that read text as BERT does: `[CLS] question [SEP] context [SEP]`.
BERT = Template()
#: What the files of published tokenizers are used with, by the names in `preprocess.tokenizers.files`.
TEMPLATES: Mapping[str, Template] = {
    "bert": BERT,
    "roberta": Template(order=("cls", QUESTION, "sep", "sep", CONTEXT, "sep"), segments=(0,) * 6),
    "xlnet": Template(
        order=(CONTEXT, "sep", QUESTION, "sep", "cls"),
        segments=(0, 0, 1, 1, 2),
        padding_side="left",
        padding_segment=3,
    ),
}


def pretrained_template(stated: str | None, family: Template) -> Template:
    """Return how a model's windows are laid out, given what is known of its tokenizer and of its family.

    The special tokens stand as the tokenizer's own program puts them, which is what was read in pretraining: a BERT
    with XLM-R's vocabulary has read XLM-R's pairs. All else is the family's: where short windows are filled
    up, how many token types there are, and at which end of the window the state of "cls" is read. A tokenizer that
    puts "cls" at the other end was not the model's in pretraining, so the family's layout is taken.

    Args:
        stated: name of the template that the tokenizer's files state, None where they state none.
        family: the template of the model's family.
    """
    own = TEMPLATES.get(stated or "")
    if own is None or (own.order[0] == own.null) != (family.order[0] == family.null):
        return family
    segments = tuple(min(segment, max(family.segments)) for segment in own.segments)
    return replace(family, order=own.order, segments=segments, null=own.null)


def template_of(features: FeatureSet) -> Template:
    """Return the template that windows are laid out by."""
    return Template(**features.meta["template"])


def null_positions(features: FeatureSet, window: NDArray[np.integer] | slice = slice(None)) -> Ints:
    """Return the position that stands for "no answer" in each window, or in some windows, int64 [W]."""
    template = template_of(features)
    lengths = features.row_splits[1:][window] - features.row_splits[:-1][window]
    return template.starts(lengths, features.doc_length[window])[template.order.index(template.null)]


def answer_mask(
    features: FeatureSet, window: NDArray[np.integer], position: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Return where an answer may begin or end: at the context's tokens, and at that which stands for "no answer".

    Args:
        features: the windows.
        window: integer [B], those that are meant.
        position: [B, L], or [1, L] where all have the same, of columns in their windows.

    Returns:
        bool [B, L].
    """
    place = position - features.doc_offset[window, None]
    null = null_positions(features, window)
    return ((place >= 0) & (place < features.doc_length[window, None])) | (position == null[:, None])
