"""XLNet (Yang et al. 2019): relative positions and segments in every layer's attention, `A sep B sep cls`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pretrained_configs.config import ModelConfig
from pretrained_configs.families.base import UNLIMITED, Family, InputTemplate, Length, linear, norm
from pretrained_configs.report import Shape

#: The relative attention's biases: what is added to a query before it meets contents, positions and segments.
BIASES = ("content", "position", "segment")


def inverse_frequencies(width: int) -> NDArray[np.float32]:
    """Return how fast each sine of the encoding of a distance turns: float32 [width / 2], radians per token."""
    exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    return np.float32(1) / np.power(np.float32(10000), exponents)


def bias_parameters(name: str, width: int) -> dict[str, Shape]:
    """Return a set of the relative attention's biases."""
    return {f"{name}.{bias}": (width,) for bias in BIASES}


class XLNet(Family):
    """A family whose attention knows distances and whether two tokens are of one segment, and has no other places."""

    def usable_length(self, config: ModelConfig) -> int:
        """Return the longest input: any distance has its encoding."""
        return UNLIMITED

    def elements_per_batch(self, config: ModelConfig, length: int) -> int:
        """Return the size of the projected distances length - 1 … 1 - length."""
        return (2 * length - 1) * config.hidden_size

    def embedding_parameters(self, config: ModelConfig) -> dict[str, Shape]:
        """Return the word table, and the biases that all layers share if they are tied."""
        shared = {} if config.untie_r else bias_parameters("biases", config.hidden_size)
        return super().embedding_parameters(config) | shared

    def layer_parameters(self, config: ModelConfig) -> dict[str, Shape]:
        """Return name -> shape of a layer; the projections of its attention have no biases of the usual kind."""
        hidden, inner, n_groups = config.hidden_size, config.intermediate_size, config.ffn_num_groups
        return {
            "attention.qkv.weight": (3 * hidden, hidden),
            "attention.position.weight": (hidden, hidden),
            **(bias_parameters("attention.biases", hidden) if config.untie_r else {}),
            "attention.segments.weight": (2, hidden),
            "attention.output.weight": (hidden, hidden),
            **norm("attention_norm", hidden),
            **linear("ffn.up", hidden, inner, n_groups),
            **linear("ffn.down", inner, hidden, n_groups),
            **norm("ffn_norm", hidden),
        }

    def forward_flops(self, config: ModelConfig, length: Length) -> Length:
        """Return BERT's operations, and those of the queries' products with the encoded distances.

        The distances are projected once for all windows of a batch, which counts nothing.
        """
        distances = 2 * self.n_layers(config) * config.hidden_size * length * length
        return super().forward_flops(config, length) + distances

    def problems(self, config: ModelConfig) -> list[str]:
        """List what no XLNet is."""
        problems = super().problems(config)
        if config.embedding_projection != "none":
            problems.append(f"embedding_projection {config.embedding_projection!r}: an XLNet projects no embeddings")
        if config.layer_norm_type != "postln":
            problems.append(f"layer_norm_type {config.layer_norm_type!r}: an XLNet's is 'postln'")
        if config.hidden_size % 2:
            problems.append(f"hidden_size {config.hidden_size} is odd: distances are encoded in pairs of numbers")
        return problems


FAMILY = XLNet(
    template=InputTemplate(
        # Context before question, as the authors' run_squad.py: in pre-training the second text was the shorter one.
        order=("context", "sep", "question", "sep", "cls"),
        segments=(0, 0, 1, 1, 2),
        padding_side="left",
        padding_segment=3,
    ),
    has_position_table=False,
    has_token_type_table=False,
    has_embedding_norm=False,
    inner_dropout=True,
    pooled_token="last",
    published_pooler=False,
    conditions_ends=True,
    guesses_masked=False,
    own_fields=frozenset({"untie_r", "clamp_len", "start_n_top", "end_n_top"}),
    config_file="xlnet_config.json",
)
