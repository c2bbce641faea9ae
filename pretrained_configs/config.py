"""The architecture of a model, free of any framework, and where it is read from and written to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from preprocess.base.errors import CheckpointError
from preprocess.base.names import unknown
from pretrained_configs import families
from pretrained_configs.families.base import Family

#: Activations of the feed-forward block: exact (erf) GELU, its tanh approximation, x * sigmoid(1.702 x), and ReLU.
ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "relu")

#: Where embeddings of another width than the layers are projected: nowhere, right after the word table (position and
#: token type are added after it), or after the embeddings' LayerNorm.
EMBEDDING_PROJECTIONS = ("none", "word", "output")

#: LayerNorm after each residual sum, or on the input of each block.
LAYER_NORM_TYPES = ("postln", "preln")

#: What stands for where a token is: rows of a table that are added to the word embeddings; or, within attention,
#: vectors of the distance between two tokens, for the query (Shaw et al. 2018), or for query and key (Huang et al.
#: 2020, method 4).
POSITION_EMBEDDING_TYPES = ("absolute", "relative_key", "relative_key_query")

#: Marks a field that means something to some families alone, which have it among their `own_fields`.
_OWN = {"own": True}
#: And one that says how answers are searched, which no parameter depends on.
_SEARCHED = {**_OWN, "searched": True}


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
        model_type: the family, one of `families.names()`.
        hidden_act: activation of the feed-forward block, one of `ACTIVATIONS`: "gelu" is the exact (erf) form,
            "gelu_tanh" the tanh approximation, "quick_gelu" x * sigmoid(1.702 x); "" stands for the family's own.
        embedding_size: width of the word embedding; 0 stands for hidden_size.
        embedding_projection: where embedding_size becomes hidden_size, one of `EMBEDDING_PROJECTIONS`.
        layer_norm_type: one of `LAYER_NORM_TYPES`; "preln" has no LayerNorm after the last layer.
        num_hidden_groups: ALBERT: groups of layers that share their parameters.
        inner_group_num: ALBERT: layers within a group, run one after the other.
        ffn_num_groups: the feed-forward matrices are block diagonal with this many blocks.
        max_position_embeddings: rows of the position table; `Family.usable_length` is the longest input.
        position_embedding_type: BERT: one of `POSITION_EMBEDDING_TYPES`; relative ones have no position table but,
            in every layer, vectors of all distances below max_position_embeddings.
        max_relative_position: NEZHA: distances beyond it count as it.
        task_type_vocab_size: ERNIE 2.0 and 3.0: rows of the table of pre-training tasks.
        type_vocab_size: rows of the token-type (segment) table.
        layer_norm_eps: added to the variance in every LayerNorm.
        hidden_dropout_prob: dropout after embeddings and blocks, while training.
        attention_probs_dropout_prob: dropout on the attention weights, while training.
        initializer_range: standard deviation of fresh weights.
        pad_token_id: vocabulary id that fills short inputs.
        untie_r: XLNet: whether each layer has its own three biases of the relative attention, or all share one set.
        clamp_len: XLNet: the largest distance between two tokens that is told from larger ones; -1 for no limit.
        start_n_top: XLNet: how many starts of an answer are searched for its end, where ends depend on starts.
        end_n_top: XLNet: how many ends of each are.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    model_type: str = "bert"
    hidden_act: str = ""
    embedding_size: int = 0
    embedding_projection: str = "none"
    layer_norm_type: str = "postln"
    num_hidden_groups: int = field(default=1, metadata=_OWN)
    inner_group_num: int = field(default=1, metadata=_OWN)
    ffn_num_groups: int = 1
    max_position_embeddings: int = 512
    position_embedding_type: str = field(default="absolute", metadata=_OWN)
    max_relative_position: int = field(default=64, metadata=_OWN)
    task_type_vocab_size: int = field(default=3, metadata=_OWN)
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    pad_token_id: int = 0
    untie_r: bool = field(default=True, metadata=_OWN)
    clamp_len: int = field(default=-1, metadata=_OWN)
    start_n_top: int = field(default=5, metadata=_SEARCHED)
    end_n_top: int = field(default=5, metadata=_SEARCHED)

    def __post_init__(self) -> None:
        """Fill in the embedding's width and the family's activation; check types, ranges and sizes.

        Raises:
            CheckpointError: naming every field whose value can't be meant, and what can't be built.
        """
        if self.embedding_size == 0:
            object.__setattr__(self, "embedding_size", self.hidden_size)
        problems = _wrong_fields(self)
        if self.hidden_act == "" and not problems:
            object.__setattr__(self, "hidden_act", self.family.hidden_act)
        problems = problems or _misfits(self) or self.family.problems(self) or _too_large(self)
        if problems:
            raise CheckpointError("; ".join(problems))

    @property
    def architecture(self) -> dict[str, Any]:
        """The fields that say what is computed, without those that say how answers are searched in it."""
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata.get("searched")}

    @property
    def family(self) -> Family:
        """What holds for all models of this `model_type`."""
        return families.find(self.model_type)


#: What a field that is one of several words may be; `model_type` is the name of a family.
_CHOICES = {
    "hidden_act": ACTIVATIONS,
    "embedding_projection": EMBEDDING_PROJECTIONS,
    "layer_norm_type": LAYER_NORM_TYPES,
    "position_embedding_type": POSITION_EMBEDDING_TYPES,
}
_MAY_BE_NEGATIVE = ("pad_token_id", "clamp_len")
_PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob")
#: What fields may be at most: a width of 31 bits, in float32 a number and its square, and layers built in seconds.
_MOST = {"int": 2**31 - 1, "float": 1e18}
_MOST_LAYERS = 1000
_COUNTS = ("num_hidden_layers", "num_hidden_groups", "inner_group_num")


def _wrong_fields(config: ModelConfig) -> list[str]:
    """List every field whose type or range is wrong."""
    problems = []
    for f in fields(config):
        value = getattr(config, f.name)
        if f.type == "str":
            continue
        if f.type == "bool":
            problems += [f"{f.name} {value!r} is not true or false"] if not isinstance(value, bool) else []
            continue
        # bool is an int to Python; "hidden_size": true is a mistake all the same.
        wanted = (int,) if f.type == "int" else (int, float)
        most = _MOST_LAYERS if f.name in _COUNTS else _MOST[str(f.type)]
        if isinstance(value, bool) or not isinstance(value, wanted):
            kind = "an integer" if f.type == "int" else "a number"
            problems.append(f"{f.name} {value!r} is not {kind}")
        elif f.name in _PROBABILITIES and not 0 <= value < 1:
            problems.append(f"{f.name} {value!r} is not in [0, 1)")
        elif f.name not in (*_PROBABILITIES, *_MAY_BE_NEGATIVE) and not 0 < value < float("inf"):
            problems.append(f"{f.name} {value!r} is not positive")
        elif value > most:
            problems.append(f"{f.name} {value!r} is more than {most}")
    for name, known in {**_CHOICES, "model_type": families.names()}.items():
        value = getattr(config, name)
        if value not in known and (name, value) != ("hidden_act", ""):  # which is the family's own
            problems.append(unknown(name, value, known))
    return problems


def _misfits(config: ModelConfig) -> list[str]:
    """List what does not fit together, of fields that are right one by one."""
    problems = []
    hidden, heads, n_groups = config.hidden_size, config.num_attention_heads, config.ffn_num_groups
    if hidden % heads:
        problems.append(f"hidden_size {hidden} is not divisible by num_attention_heads {heads}")
    if not 0 <= config.pad_token_id < config.vocab_size:
        problems.append(f"pad_token_id {config.pad_token_id} is not in the vocabulary of {config.vocab_size}")
    if config.embedding_projection == "none" and config.embedding_size != hidden:
        problems.append(f"embedding_size {config.embedding_size} != hidden_size {hidden} needs a projection")
    for name, width in (("hidden_size", hidden), ("intermediate_size", config.intermediate_size)):
        if width % n_groups:
            problems.append(f"{name} {width} is not divisible by ffn_num_groups {n_groups}")
    return problems


def _too_large(config: ModelConfig) -> list[str]:
    """Say what makes a model that can't be built: PyTorch multiplies the sizes of a tensor in 64 bits."""
    if (n_layers := config.family.n_layers(config)) > _MOST_LAYERS:
        return [f"{n_layers} layers are more than {_MOST_LAYERS}"]
    sizes = {name: math.prod(shape) for name, shape in config.family.parameters(config, pooled=True).items()}
    n_bytes = 4 * sum(sizes.values())
    if n_bytes < 2**63:
        return []
    largest = max(sizes, key=lambda name: sizes[name])
    return [f"the parameters would take {n_bytes:.1e} bytes ({largest} alone has {sizes[largest]:.1e} elements)"]
