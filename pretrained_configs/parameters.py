"""Every parameter of a model by its framework-neutral name, with its shape, from the input to the output.

Matrices are [out, in]. Both frameworks build models that have just these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pretrained_configs.config import ModelConfig
from pretrained_configs.families.base import linear, norm
from pretrained_configs.report import Shape


def parameter_shapes(
    config: ModelConfig,
    *,
    pooled: bool,
    heads: Mapping[str, int] | None = None,
    given: Mapping[str, str] | None = None,
    tied: Iterable[str] = (),
) -> dict[str, Shape]:
    """Return name -> shape.

    Args:
        config: the architecture.
        pooled: whether there is a pooler.
        heads: rows of the task head's matrices, by their names.
        given: what those read that read something given a position, "token_given" or "sequence_given".
        tied: names of the heads that score the pieces of the vocabulary, by the word table.
    """
    shapes = config.family.parameters(config, pooled=pooled)
    for name, n_rows in (heads or {}).items():
        shapes |= _head(f"head.{name}", config.hidden_size, n_rows, (given or {}).get(name, ""))
    for name in tied:
        shapes |= {f"head.{name}.{part}": s for part, s in config.family.vocabulary_parameters(config).items()}
    return shapes


def _head(name: str, hidden: int, n_rows: int, given: str) -> dict[str, Shape]:
    if not given:
        return linear(name, hidden, n_rows)
    layer = linear(f"{name}.hidden", 2 * hidden, hidden)
    if given == "sequence_given":
        return layer | {f"{name}.output.weight": (n_rows, hidden)}
    return layer | norm(f"{name}.norm", hidden) | linear(f"{name}.output", hidden, n_rows)
