"""Tell-tale signs of weights that are not what they should be, read off their values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from pretrained_configs.config import ModelConfig
from pretrained_configs.report import fold

#: How far the word table's standard deviation may be from initializer_range, either way. Published models are between
#: 0.9 and 4 times theirs (training widens it); ten times is noise or another unit.
_FAR = 10.0


@dataclass
class Statistics:
    """What is kept of each parameter's values while they stream by.

    Args:
        untrained_norms: LayerNorm weights whose values are all exactly 1.
        norms: all LayerNorm weights.
        constant: other matrices whose values are all the same.
        not_finite: parameters with an infinity or NaN.
        word_std: standard deviation of the word table.
    """

    untrained_norms: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)
    word_std: float = float("nan")

    def add(self, name: str, values: np.ndarray) -> None:
        """Take note of one parameter."""
        first = values.flat[0]
        if not np.isfinite(values).all():
            self.not_finite.append(name)
        if name.endswith("norm.weight"):
            self.norms.append(name)
            if (values == 1).all():
                self.untrained_norms.append(name)
        elif name.endswith("weight") and (values == first).all():
            self.constant.append(name)
        if name == "embeddings.word.weight":
            self.word_std = float(values.std(dtype=np.float64))


def suspicions(
    config: ModelConfig, parameters: Iterable[tuple[str, np.ndarray]], max_seq_length: int | None = None
) -> list[str]:
    """Say what looks like a bad load or a bad file.

    Args:
        config: the architecture.
        parameters: name and values of each, as they come.
        max_seq_length: the longest input that the model's authors state, in tokens, if known.

    Returns:
        one sentence each; none where nothing looks wrong.
    """
    seen = Statistics()
    for name, values in parameters:
        seen.add(name, values)
    warnings = []
    if seen.not_finite:
        warnings.append(f"values that are infinite or not a number: {', '.join(fold(seen.not_finite))}")
    if seen.norms and seen.untrained_norms == seen.norms:
        warnings.append(
            "every LayerNorm weight is exactly 1: these weights were never trained, or not these were loaded"
        )
    elif seen.untrained_norms:
        warnings.append(f"LayerNorm weights that are all exactly 1: {', '.join(fold(seen.untrained_norms))}")
    if seen.constant:
        warnings.append(f"matrices with one value throughout: {', '.join(fold(seen.constant))}")
    ratio = seen.word_std / config.initializer_range
    if not 1 / _FAR <= ratio <= _FAR:
        warnings.append(
            f"the word table's standard deviation is {seen.word_std:.3g}, {ratio:.2g} times initializer_range "
            f"{config.initializer_range:g}: other values, or another unit, than a trained table has"
        )
    if max_seq_length is not None and config.family.usable_length(config) > max_seq_length:
        warnings.append(
            f"the position table has {config.max_position_embeddings} rows, but the authors state inputs of at most "
            f"{max_seq_length} tokens: the rows beyond are hardly trained"
        )
    return warnings
