"""The architecture of a model, free of any framework, and where it is read from and written to."""

from __future__ import annotations

from dataclasses import dataclass, fields

from preprocess.base.errors import CheckpointError
from preprocess.base.names import unknown

#: Activations of the feed-forward block: exact (erf) GELU, its tanh approximation, x * sigmoid(1.702 x), and ReLU.
ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "relu")

#: The families of models that can be built.
MODEL_TYPES = ("bert", "albert", "electra")

#: Where embeddings of another width than the layers are projected: nowhere, right after the word table (position and
#: token type are added after it), or after the embeddings' LayerNorm.
EMBEDDING_PROJECTIONS = ("none", "word", "output")

#: LayerNorm after each residual sum, or on the input of each block.
LAYER_NORM_TYPES = ("postln", "preln")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The architecture of an encoder.

    The defaults are those of transformers' BertConfig for keys that a config.json may leave out.

    Args:
        vocab_size: rows of the word embedding.
        hidden_size: width of every layer; a multiple of num_attention_heads.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: number of attention heads per layer.
        intermediate_size: width of the feed-forward block.
        model_type: the family, one of `MODEL_TYPES`.
        hidden_act: activation of the feed-forward block, one of `ACTIVATIONS`: "gelu" is the exact (erf) form,
            "gelu_tanh" the tanh approximation, "quick_gelu" x * sigmoid(1.702 x).
        embedding_size: width of the word embedding; 0 stands for hidden_size.
        embedding_projection: where embedding_size becomes hidden_size, one of `EMBEDDING_PROJECTIONS`.
        layer_norm_type: one of `LAYER_NORM_TYPES`; "preln" has no LayerNorm after the last layer.
        num_hidden_groups: ALBERT: groups of layers that share their parameters.
        inner_group_num: ALBERT: layers within a group, run one after the other.
        ffn_num_groups: the feed-forward matrices are block diagonal with this many blocks.
        max_position_embeddings: rows of the position table: the longest input, in tokens.
        type_vocab_size: rows of the token-type (segment) table.
        layer_norm_eps: added to the variance in every LayerNorm.
        hidden_dropout_prob: dropout after embeddings and blocks, while training.
        attention_probs_dropout_prob: dropout on the attention weights, while training.
        initializer_range: standard deviation of fresh weights.
        pad_token_id: vocabulary id that fills short inputs.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    model_type: str = "bert"
    hidden_act: str = "gelu"
    embedding_size: int = 0
    embedding_projection: str = "none"
    layer_norm_type: str = "postln"
    num_hidden_groups: int = 1
    inner_group_num: int = 1
    ffn_num_groups: int = 1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    pad_token_id: int = 0

    def __post_init__(self) -> None:
        """Fill in the embedding's width; check types and ranges.

        Raises:
            CheckpointError: naming every field whose value can't be meant.
        """
        if self.embedding_size == 0:
            object.__setattr__(self, "embedding_size", self.hidden_size)
        problems = _problems(self)
        if problems:
            raise CheckpointError("; ".join(problems))

    @property
    def layer_order(self) -> tuple[tuple[int, int], ...]:
        """The (group, inner group) that each step of an ALBERT runs through, first step first.

        The rule is google-research/albert's, rounding included; groups that it never reaches have no parameters.
        """
        groups = (int(i / self.num_hidden_layers * self.num_hidden_groups) for i in range(self.num_hidden_layers))
        return tuple((group, inner) for group in groups for inner in range(self.inner_group_num))


_CHOICES = {
    "model_type": MODEL_TYPES,
    "hidden_act": ACTIVATIONS,
    "embedding_projection": EMBEDDING_PROJECTIONS,
    "layer_norm_type": LAYER_NORM_TYPES,
}
_PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob")


def _problems(config: ModelConfig) -> list[str]:
    """List every field whose type or range is wrong, and what does not fit together."""
    problems = []
    for f in fields(config):
        value = getattr(config, f.name)
        if f.type == "str":
            continue
        # bool is an int to Python; "hidden_size": true is a mistake all the same.
        wanted = (int,) if f.type == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted):
            kind = "an integer" if f.type == "int" else "a number"
            problems.append(f"{f.name} {value!r} is not {kind}")
        elif f.name in _PROBABILITIES and not 0 <= value < 1:
            problems.append(f"{f.name} {value!r} is not in [0, 1)")
        elif f.name not in _PROBABILITIES and f.name != "pad_token_id" and not 0 < value < float("inf"):
            problems.append(f"{f.name} {value!r} is not positive")
    for name, known in _CHOICES.items():
        if getattr(config, name) not in known:
            problems.append(unknown(name, getattr(config, name), known))
    if not problems and config.hidden_size % config.num_attention_heads:
        heads = config.num_attention_heads
        problems.append(f"hidden_size {config.hidden_size} is not divisible by num_attention_heads {heads}")
    if not problems and not 0 <= config.pad_token_id < config.vocab_size:
        problems.append(f"pad_token_id {config.pad_token_id} is not in the vocabulary of {config.vocab_size}")
    if not problems and config.embedding_projection == "none" and config.embedding_size != config.hidden_size:
        problems.append(
            f"embedding_size {config.embedding_size} != hidden_size {config.hidden_size} needs a projection"
        )
    widths = {"hidden_size": config.hidden_size, "intermediate_size": config.intermediate_size}
    for name, width in widths.items() if not problems else ():
        if width % config.ffn_num_groups:
            problems.append(f"{name} {width} is not divisible by ffn_num_groups {config.ffn_num_groups}")
    return problems
