"""ALBERT (Lan et al. 2020): layers share their parameters; Google's, brightmart's and transformers' variants."""

from __future__ import annotations

from pretrained_configs.config import ModelConfig
from pretrained_configs.families.base import Family


def layer_order(config: ModelConfig) -> list[tuple[int, int]]:
    """Return the (group, inner group) that each step runs through, first step first.

    The rule is google-research/albert's, rounding included; groups that it never reaches have no parameters.
    """
    n_layers, n_groups = config.num_hidden_layers, config.num_hidden_groups
    groups = (int(i / n_layers * n_groups) for i in range(n_layers))
    return [(group, inner) for group in groups for inner in range(config.inner_group_num)]


class Albert(Family):
    """A family whose layers share the parameters of their group."""

    def layers(self, config: ModelConfig) -> list[str]:
        """Return the groups' layers in the order in which they run."""
        return [f"groups.{group}.{inner}" for group, inner in layer_order(config)]

    def spare_parameters(self, config: ModelConfig) -> tuple[str, ...]:
        """Return patterns of the groups that no layer runs through: Google's program makes them all the same."""
        used = {group for group, _ in layer_order(config)}
        return tuple(f"groups.{group}.*" for group in range(config.num_hidden_groups) if group not in used)


FAMILY = Albert(own_fields=frozenset({"num_hidden_groups", "inner_group_num"}), config_file="albert_config.json")
