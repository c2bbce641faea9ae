"""Options about training methods, each off by default; docs/methods.md has their formulas, papers and costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from experiment.options.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_ONE, Rule, Share
from experiment.options.windows import Size
from preprocess.base.errors import UsageError

Factor = Annotated[float, Rule("more than 0 and at most 1", lambda x: 0 < x <= 1)]
Length = Annotated[float, AT_LEAST_0]
Layers = Annotated[int, AT_LEAST_0]
#: Names of `preprocess.base.methods.LORA_PLACES`.
LoraTarget = Literal["query", "key", "value", "output", "up", "down"]


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """Training methods (docs/methods.md)."""

    layerwise_lr_decay: Factor = 1.0
    """Factor on the learning rate from each layer to the one below, down to the embeddings; 1 for one rate."""
    ema_decay: Share = 0.0
    """Evaluate and save an average of the weights that keeps this share of itself at each step; 0 for none."""
    fgm_epsilon: Length = 0.0
    """FGM: also learn with word embeddings that are moved by this length along their gradient; 0 for none."""
    pgd_epsilon: Length = 0.0
    """PGD: the same in several steps, which lead no further than this; 0 for none."""
    pgd_steps: Size = 3
    """With --pgd_epsilon: how many steps."""
    pgd_alpha: Annotated[float, ABOVE_0] = 0.3
    """With --pgd_epsilon: length of each step."""
    rdrop_alpha: Length = 0.0
    """R-Drop: compute each window twice, with other dropout, and weigh the divergence of the two by this; 0 for
    none."""
    label_smoothing: Share = 0.0
    """Share of a position's target that all real tokens of the window get in equal parts; 0 for none."""
    reinit_layers: Layers = 0
    """Draw so many of the last layers anew, and the pooler; 0 for none."""
    freeze_layers: Layers = 0
    """Leave the embeddings and so many of the first layers as they are; 0 for none."""
    lora_rank: Layers = 0
    """LoRA: train changes of this rank beside matrices that stay as they are, and the head; 0 for none."""
    lora_alpha: Annotated[float, ABOVE_0] = 16.0
    """With --lora_rank: changes are multiplied by this over the rank."""
    lora_targets: Annotated[tuple[LoraTarget, ...], AT_LEAST_ONE] = ("query", "value")
    """With --lora_rank: the matrices that change, in every layer."""


@dataclass(frozen=True, kw_only=True)
class StoppingOptions:
    """Training methods (docs/methods.md)."""

    early_stopping_patience: Annotated[int, AT_LEAST_0] = 0
    """Stop when so many evaluations in a row were no better than the best before them; 0 for never."""


def check_together(options: MethodOptions) -> None:
    """Refuse methods that leave each other nothing to do.

    Raises:
        UsageError: naming both.
    """
    on = {name for name in ("fgm_epsilon", "pgd_epsilon", "freeze_layers", "lora_rank") if getattr(options, name)}
    on |= {"reinit_layers"} if options.reinit_layers else set()
    for first, second, why in (
        ("fgm_epsilon", "pgd_epsilon", "both move the word embeddings"),
        ("lora_rank", "freeze_layers", "LoRA leaves all layers as they are"),
        ("lora_rank", "reinit_layers", "LoRA would leave the new layers as they are drawn"),
        ("fgm_epsilon", "freeze_layers", "frozen word embeddings have no gradient to be moved along"),
        ("pgd_epsilon", "freeze_layers", "frozen word embeddings have no gradient to be moved along"),
        ("fgm_epsilon", "lora_rank", "under LoRA word embeddings have no gradient to be moved along"),
        ("pgd_epsilon", "lora_rank", "under LoRA word embeddings have no gradient to be moved along"),
    ):
        if {first, second} <= on:
            raise UsageError(f"--{first} and --{second} both given: {why}; leave one out")
