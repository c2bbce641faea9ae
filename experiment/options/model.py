"""Options about the model and its vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from experiment.options.fields import NameOrPath, Share

HiddenAct = Literal["gelu", "gelu_tanh", "quick_gelu", "relu"]


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Model (one of the first two)."""

    model_name_or_path: NameOrPath | None = None
    """Checkpoint to start from: a directory, a weights file in one, a hub id, or a short name (`models` lists
    them)."""
    config_name: NameOrPath | None = None
    """config.json (or its directory) of a model to train from scratch, if no checkpoint is given."""
    hidden_act: HiddenAct | None = None
    """Activation, if the one of the checkpoint's config is to be overruled."""


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """Model (one of the first two)."""

    keep_head: bool | None = None
    """Of a checkpoint that was fine-tuned for another task keep the head, too, as far as it fits (default: its
    encoder alone)."""
    classifier_dropout: Share = 0.1
    """Share that is dropped, while training, of what classes, tags and options are read from."""


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """Model."""

    model_name_or_path: NameOrPath
    """Run directory, whose best seed answers; or a fine-tuned checkpoint of either framework."""
    hidden_act: HiddenAct | None = None
    """Activation, if the one of the checkpoint's config is to be overruled."""


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions:
    """Vocabulary."""

    tokenizer_name: NameOrPath | None = None
    """Directory, vocab.txt or tokenizer.json (default: the checkpoint's own)."""
    do_lower_case: bool | None = None
    """Lower-case and strip accents (default: as the vocabulary and the tokenizer's files tell; the log says why)."""
