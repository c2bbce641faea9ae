"""How high a parameter stands in a model: what methods that go layer by layer count by."""

from __future__ import annotations

from collections.abc import Iterable

from pretrained_configs.config import ModelConfig


def n_levels(config: ModelConfig) -> int:
    """Return how many layers there are that have parameters of their own; ALBERT's layers share theirs."""
    return len(_layers(config))


def levels(config: ModelConfig, names: Iterable[str]) -> dict[str, int]:
    """Return the level of each parameter.

    Args:
        config: the architecture.
        names: framework-neutral names of parameters.

    Returns:
        0 for the embeddings and what else lies below the layers or is shared by all; 1 … L for the layers, numbered
        as they first run; L + 1 for pooler and head.
    """
    layers = _layers(config)

    def level(name: str) -> int:
        if name.startswith(("pooler.", "head.")):
            return len(layers) + 1
        return next((i for i, layer in enumerate(layers, 1) if name.startswith(f"{layer}.")), 0)

    return {name: level(name) for name in names}


def _layers(config: ModelConfig) -> list[str]:
    return list(dict.fromkeys(config.family.layers(config)))
