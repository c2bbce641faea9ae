"""NEZHA (Wei et al. 2019): a BERT whose keys and values are moved by fixed sinusoids of the distance to the query."""

from __future__ import annotations

from pretrained_configs.config import ModelConfig
from pretrained_configs.families.base import Family


class Nezha(Family):
    """A family whose only positions are distances, without parameters."""

    def distance_products(self, config: ModelConfig) -> int:
        """Return how many products with the vector of their distance every pair of tokens costs each head."""
        return 2

    def problems(self, config: ModelConfig) -> list[str]:
        """List what the family can't make of an architecture whose fields are each of the right type and range."""
        width = config.hidden_size // config.num_attention_heads
        odd = [f"{width} dimensions per head can't be filled with pairs of sine and cosine"] if width % 2 else []
        return super().problems(config) + odd


FAMILY = Nezha(has_position_table=False, own_fields=frozenset({"max_relative_position"}))
