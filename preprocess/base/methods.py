"""Which training methods are on, and with which numbers, in either framework. All of them are off by default."""

from __future__ import annotations

from dataclasses import dataclass, fields

#: Matrices that LoRA can adapt -> the module of a layer that holds them, and which of how many parts of its rows.
LORA_PLACES = {
    "query": ("attention.qkv", 0, 3),
    "key": ("attention.qkv", 1, 3),
    "value": ("attention.qkv", 2, 3),
    "output": ("attention.output", 0, 1),
    "up": ("ffn.up", 0, 1),
    "down": ("ffn.down", 0, 1),
}
#: What a batch calls, among its soft targets, the hidden states to be matched, float32 [B, L, teacher's width], and
#: the share of each token in the mean of the distances, float32 [B, L]; and what a model calls the former.
STATES, STATE_SHARES = "teacher_states", "teacher_state_shares"


@dataclass(frozen=True, kw_only=True)
class Methods:
    """The switches; docs/methods.md has their formulas and papers.

    Args:
        layerwise_lr_decay: factor on the learning rate from each layer to the one below.
        ema_decay: share that the averaged weights keep of themselves at a step; 0 for none.
        fgm_epsilon: length of FGM's step in the word embeddings; 0 for none.
        pgd_epsilon: most that PGD's steps in the word embeddings move them; 0 for none.
        pgd_steps: how many they are.
        pgd_alpha: length of each.
        rdrop_alpha: weight of the divergence between two passes; 0 for one pass.
        label_smoothing: share of a position's target that all real tokens of the window get.
        reinit_layers: last layers that are drawn anew, and the pooler; 0 for none.
        freeze_layers: first layers that stay as they are, and the embeddings; 0 for none.
        lora_rank: of the change of each adapted matrix, all else but pooler and head staying as it is; 0 for none.
        lora_alpha: the change is multiplied by this over the rank.
        lora_targets: the adapted matrices of every layer, names of `LORA_PLACES`.
    """

    layerwise_lr_decay: float = 1.0
    ema_decay: float = 0.0
    fgm_epsilon: float = 0.0
    pgd_epsilon: float = 0.0
    pgd_steps: int = 3
    pgd_alpha: float = 0.3
    rdrop_alpha: float = 0.0
    label_smoothing: float = 0.0
    reinit_layers: int = 0
    freeze_layers: int = 0
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_targets: tuple[str, ...] = ("query", "value")

    @property
    def n_passes(self) -> int:
        """How many times a forward and backward pass go over each window in a step."""
        adversarial = 1 if self.uses("fgm_epsilon") else self.pgd_steps if self.uses("pgd_epsilon") else 0
        return self.n_copies * (1 + adversarial)

    @property
    def n_copies(self) -> int:
        """How many times each window is in a pass."""
        return 2 if self.uses("rdrop_alpha") else 1

    def uses(self, name: str) -> bool:
        """Whether a switch, by its field's name, is on."""
        return bool(getattr(self, name) != _OFF[name])


_OFF = {field.name: field.default for field in fields(Methods)}
