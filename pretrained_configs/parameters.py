"""Every parameter of a model by its framework-neutral name, with its shape, from the input to the output.

Matrices are [out, in]. Both frameworks build models that have just these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pretrained_configs.config import ModelConfig
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
    hidden, embedding = config.hidden_size, config.embedding_size
    # Position, token type and LayerNorm are as wide as the word table, unless that is projected before the sum.
    width = hidden if config.embedding_projection == "word" else embedding
    shapes: dict[str, Shape] = {"embeddings.word.weight": (config.vocab_size, embedding)}
    if config.embedding_projection == "word":
        shapes["embeddings.word_projection.weight"] = (hidden, embedding)
    shapes["embeddings.position.weight"] = (config.max_position_embeddings, width)
    shapes["embeddings.token_type.weight"] = (config.type_vocab_size, width)
    shapes.update(_norm("embeddings.norm", width))
    if config.embedding_projection == "output":
        shapes.update(_linear("projection", embedding, hidden))
    for layer in _layers(config):
        shapes.update(_linear(f"{layer}.attention.qkv", hidden, 3 * hidden))
        shapes.update(_linear(f"{layer}.attention.output", hidden, hidden))
        shapes.update(_norm(f"{layer}.attention_norm", hidden))
        shapes.update(_linear(f"{layer}.ffn.up", hidden, config.intermediate_size, config.ffn_num_groups))
        shapes.update(_linear(f"{layer}.ffn.down", config.intermediate_size, hidden, config.ffn_num_groups))
        shapes.update(_norm(f"{layer}.ffn_norm", hidden))
    if pooled:
        shapes.update(_linear("pooler", hidden, hidden))
    for name, n_rows in (heads or {}).items():
        shapes.update(_linear(f"head.{name}", hidden, n_rows))
    return shapes


def _layers(config: ModelConfig) -> Iterator[str]:
    if config.model_type == "albert":
        yield from (f"groups.{group}.{inner}" for group, inner in dict.fromkeys(config.layer_order))
    else:
        yield from (f"layers.{i}" for i in range(config.num_hidden_layers))


def _linear(name: str, n_in: int, n_out: int, n_groups: int = 1) -> dict[str, Shape]:
    weight = (n_out, n_in) if n_groups == 1 else (n_groups, n_out // n_groups, n_in // n_groups)
    return {f"{name}.weight": weight, f"{name}.bias": (n_out,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
