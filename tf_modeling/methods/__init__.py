"""Training methods, each as a hook; docs/methods.md says what they compute."""

from __future__ import annotations

from collections.abc import Callable

from preprocess.base.spec import TrainerSpec
from tf_modeling.hooks import TrainerHook
from tf_modeling.methods.adversarial import PGD
from tf_modeling.methods.ema import EMA
from tf_modeling.methods.layers import FrozenLayers, LayerwiseRates, ReinitialisedLayers
from tf_modeling.methods.lora import LoRA
from tf_modeling.methods.losses import LabelSmoothing, RDrop
from tf_modeling.methods.matching import MatchedStates

#: Switch -> its hook, in the order in which each point of a step calls them: weights are averaged before LoRA's are
#: merged.
_HOOKS: dict[str, Callable[[TrainerSpec], TrainerHook]] = {
    "reinit_layers": lambda spec: ReinitialisedLayers(spec.reinit_layers, spec.seed),
    "freeze_layers": lambda spec: FrozenLayers(spec.freeze_layers),
    "layerwise_lr_decay": lambda spec: LayerwiseRates(spec.layerwise_lr_decay),
    "label_smoothing": lambda spec: LabelSmoothing(spec.label_smoothing),
    "rdrop_alpha": lambda spec: RDrop(spec.rdrop_alpha),
    "fgm_epsilon": lambda spec: PGD(spec.fgm_epsilon, alpha=spec.fgm_epsilon, n_steps=1),
    "pgd_epsilon": lambda spec: PGD(spec.pgd_epsilon, alpha=spec.pgd_alpha, n_steps=spec.pgd_steps),
    "ema_decay": lambda spec: EMA(spec.ema_decay),
    "lora_rank": lambda spec: LoRA(spec.lora_rank, spec.lora_alpha, spec.lora_targets, spec.seed),
}


def hooks_of(spec: TrainerSpec) -> list[TrainerHook]:
    """Return the hooks of the methods that are asked for."""
    hooks = [make(spec) for name, make in _HOOKS.items() if spec.uses(name)]
    if spec.teacher_width:
        hooks.append(MatchedStates(spec.distill_hidden, spec.teacher_width, spec.seed))
    return hooks
