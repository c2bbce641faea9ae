"""Every parameter of a model by its framework-neutral name, with its shape, from the input to the output.

Matrices are [out, in]. Both frameworks build models that have just these.
"""

from __future__ import annotations

from collections.abc import Mapping

from pretrained_configs.config import ModelConfig
from pretrained_configs.families.base import linear
from pretrained_configs.report import Shape


def parameter_shapes(
    config: ModelConfig, *, pooled: bool, heads: Mapping[str, int] | None = None
) -> dict[str, Shape]:
    """Return name -> shape.

    Args:
        config: the architecture.
        pooled: whether there is a pooler.
        heads: rows of the task head's matrices, by their names.
    """
    shapes = config.family.parameters(config, pooled=pooled)
    for name, n_rows in (heads or {}).items():
        shapes |= linear(f"head.{name}", config.hidden_size, n_rows)
    return shapes
