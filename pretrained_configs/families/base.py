"""What the rest of the house asks of a family of models; the answers here are BERT's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pretrained_configs.report import Shape

if TYPE_CHECKING:  # which asks the families whether it can be built
    from pretrained_configs.config import ModelConfig

#: The `usable_length` of a family that computes with any distance.
UNLIMITED = 2**31 - 1

Length = TypeVar("Length", int, NDArray[np.int64])


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTemplate:
    """How the input of a family is laid out, as it was pretrained; `preprocess` builds its windows by it.

    Args:
        order: what follows what: "question", "context" and the special tokens "cls" and "sep".
        segments: token type of each of these.
        padding_side: where short inputs are filled up.
        padding_segment: token type of the padding.
        null: the special token, there once, that stands for "no answer" where a span is asked for.
    """

    order: tuple[str, ...] = ("cls", "question", "sep", "context", "sep")
    segments: tuple[int, ...] = (0, 0, 0, 1, 1)
    padding_side: Literal["left", "right"] = "right"
    padding_segment: int = 0
    null: str = "cls"

    @property
    def n_segments(self) -> int:
        """How many token types there are."""
        return 1 + max(*self.segments, self.padding_segment)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of encoder: its parameters, its layers, how its input is laid out, and what it costs.

    Parameters have framework-neutral names, and matrices are [out, in]. Each framework has a module of the same name
    among its own families, which defines `ENCODER` with just these parameters.

    Args:
        template: how its input is laid out.
        has_position_table: whether a table of positions is added to the word embeddings.
        has_token_type_table: whether a table of token types is; one with fewer rows than `template` has token types
            gets its last row for the rest.
        has_embedding_norm: whether a LayerNorm follows the embeddings.
        position_offset: row of the position table that the first real token takes.
        padding_row: whether padding has a row of its own there, that of its id, and the first real token takes the
            next, whatever `position_offset` says; else padding on the right goes on counting.
        has_task_type_table: whether the first row of a table of pre-training tasks is added, too.
        inner_dropout: whether dropout also follows the activation of the feed-forward block, and the last layer.
        pooled_token: which real token's state stands for the whole input.
        published_pooler: whether published encoders come with a pooler.
        guesses_masked: whether it is pre-trained to guess hidden pieces from what stands on both sides of them.
        hidden_act: activation of the feed-forward block where no configuration states one.
        conditions_ends: whether the head that its authors publish for spans that may be missing reads the end of a
            span given its start.
        own_fields: those fields of `ModelConfig` that mean something to this family and not to all.
        config_file: what its authors' own programs call its configuration.
    """

    template: InputTemplate = InputTemplate()
    has_position_table: bool = True
    has_token_type_table: bool = True
    has_embedding_norm: bool = True
    position_offset: int = 0
    padding_row: bool = False
    has_task_type_table: bool = False
    inner_dropout: bool = False
    pooled_token: Literal["first", "last"] = "first"
    published_pooler: bool = True
    guesses_masked: bool = True
    hidden_act: str = "gelu"
    conditions_ends: bool = False
    own_fields: frozenset[str] = frozenset()
    config_file: str = "bert_config.json"

    def usable_length(self, config: ModelConfig) -> int:
        """Return the longest input, in tokens; `UNLIMITED` where there is none."""
        return config.max_position_embeddings - self.first_position(config)

    def first_position(self, config: ModelConfig) -> int:
        """Return the row of the position table that the first real token takes."""
        return config.pad_token_id + 1 if self.padding_row else self.position_offset

    def adds_positions(self, config: ModelConfig) -> bool:
        """Say whether rows of a position table are added to the word embeddings."""
        return self.has_position_table and config.position_embedding_type == "absolute"

    def distance_products(self, config: ModelConfig) -> int:
        """Return how many products with the vector of their distance every pair of tokens costs each head."""
        return {"absolute": 0, "relative_key": 1, "relative_key_query": 2}[config.position_embedding_type]

    def elements_per_batch(self, config: ModelConfig, length: int) -> int:
        """Return how many numbers a layer computes once for all windows of a batch, of so many tokens each."""
        return 0

    def layers(self, config: ModelConfig) -> list[str]:
        """Return what the names of each layer's parameters begin with, in the order in which the layers run."""
        return [f"layers.{i}" for i in range(config.num_hidden_layers)]

    def n_layers(self, config: ModelConfig) -> int:
        """Return how many layers the input runs through; those that share parameters count each time."""
        return len(self.layers(config))

    def parameters(self, config: ModelConfig, *, pooled: bool) -> dict[str, Shape]:
        """Return name -> shape of every parameter of the encoder, from the input to the output.

        Args:
            config: the architecture.
            pooled: whether there is a pooler.
        """
        shapes = self.embedding_parameters(config)
        for layer in dict.fromkeys(self.layers(config)):
            shapes |= {f"{layer}.{name}": shape for name, shape in self.layer_parameters(config).items()}
        return shapes | (linear("pooler", config.hidden_size, config.hidden_size) if pooled else {})

    def embedding_parameters(self, config: ModelConfig) -> dict[str, Shape]:
        """Return name -> shape of what stands before the first layer."""
        embedding, hidden = config.embedding_size, config.hidden_size
        # Position, token type and LayerNorm are as wide as the word table, unless that is projected before the sum.
        width = hidden if config.embedding_projection == "word" else embedding
        shapes: dict[str, Shape] = {"embeddings.word.weight": (config.vocab_size, embedding)}
        if config.embedding_projection == "word":
            shapes["embeddings.word_projection.weight"] = (hidden, embedding)
        if self.adds_positions(config):
            shapes["embeddings.position.weight"] = (config.max_position_embeddings, width)
        if self.has_token_type_table:
            shapes["embeddings.token_type.weight"] = (config.type_vocab_size, width)
        if self.has_task_type_table:
            shapes["embeddings.task_type.weight"] = (config.task_type_vocab_size, width)
        shapes |= norm("embeddings.norm", width) if self.has_embedding_norm else {}
        return shapes | (linear("projection", embedding, hidden) if config.embedding_projection == "output" else {})

    def vocabulary_parameters(self, config: ModelConfig) -> dict[str, Shape]:
        """Return name, without the head's own, -> shape of a head that scores the pieces of the vocabulary.

        Its matrix is the word table, after the projection that also stands before the first layer.
        """
        width = config.hidden_size if config.embedding_projection == "word" else config.embedding_size
        return {"bias": (config.vocab_size,), **linear("dense", config.hidden_size, width), **norm("norm", width)}

    def layer_parameters(self, config: ModelConfig) -> dict[str, Shape]:
        """Return name, without the layer's own, -> shape of the parameters of a layer."""
        hidden, inner, n_groups = config.hidden_size, config.intermediate_size, config.ffn_num_groups
        table = (2 * config.max_position_embeddings - 1, hidden // config.num_attention_heads)
        return {
            **linear("attention.qkv", hidden, 3 * hidden),
            **linear("attention.output", hidden, hidden),
            **({} if config.position_embedding_type == "absolute" else {"attention.distance.weight": table}),
            **norm("attention_norm", hidden),
            **linear("ffn.up", hidden, inner, n_groups),
            **linear("ffn.down", inner, hidden, n_groups),
            **norm("ffn_norm", hidden),
        }

    def forward_flops(self, config: ModelConfig, length: Length) -> Length:
        """Return the floating-point operations of the encoder's matrix products, two per multiply-add.

        Embeddings are look-ups and count nothing, nor does what is computed once per window (the pooler).

        Args:
            config: the architecture.
            length: tokens of one window, padding included where it is computed; or of several, int64 [W].

        Returns:
            FLOPs per window of a forward pass, of the type of `length`.
        """
        hidden, n_layers = config.hidden_size, self.n_layers(config)
        matrices = 4 * hidden * hidden + 2 * hidden * config.intermediate_size // config.ffn_num_groups
        projection = config.embedding_size * hidden if config.embedding_projection != "none" else 0
        # q k^T and the sum over v, and what each distance adds to one of them.
        attention = (4 + 2 * self.distance_products(config)) * n_layers * hidden
        return 2 * (n_layers * matrices + projection) * length + attention * length * length

    def idle_parameters(self, config: ModelConfig, names: Iterable[str], *, competing: bool) -> dict[str, slice]:
        """Say which elements of which parameters the loss does not depend on.

        Their gradients are zero in exact arithmetic: keys' biases add one number to all scores of a query, unless
        keys are multiplied by their distance, and the last bias adds one vector to all tokens' states.

        Args:
            config: the architecture.
            names: parameters of a model.
            competing: whether all that is made of the states are softmaxes over a value of each token.

        Returns:
            parameter -> its elements.
        """
        keys = slice(config.hidden_size, 2 * config.hidden_size)
        silent = config.position_embedding_type != "relative_key_query"
        idle = {name: keys for name in names if silent and name.endswith("attention.qkv.bias")}
        *before, last = self.layers(config)
        if competing and last not in before:  # else the bias also enters a layer
            idle[f"{last}.{'ffn.down' if config.layer_norm_type == 'preln' else 'ffn_norm'}.bias"] = slice(None)
        return idle

    def spare_parameters(self, config: ModelConfig) -> tuple[str, ...]:
        """Return patterns of the parameters that a file of this model may hold although no layer uses them."""
        return () if config.position_embedding_type == "absolute" else ("embeddings.position.weight",)

    def problems(self, config: ModelConfig) -> list[str]:
        """List what the family can't make of an architecture whose fields are each of the right type and range."""
        foreign = [f for f in fields(config) if f.metadata.get("own") and f.name not in self.own_fields]
        problems = [
            f"{f.name} {value!r} means nothing to model_type {config.model_type!r} (leave it out)"
            for f in foreign
            if (value := getattr(config, f.name)) != f.default
        ]
        if self.has_position_table and self.usable_length(config) < 1:
            rows, first = config.max_position_embeddings, self.first_position(config)
            problems.append(f"max_position_embeddings {rows} leaves no row for a token: {first} are not used")
        return problems


def linear(name: str, n_in: int, n_out: int, n_groups: int = 1) -> dict[str, Shape]:
    """Return the parameters of an affine map; the matrix of one in blocks is [blocks, out, in] of each block."""
    weight = (n_out, n_in) if n_groups == 1 else (n_groups, n_out // n_groups, n_in // n_groups)
    return {f"{name}.weight": weight, f"{name}.bias": (n_out,)}


def norm(name: str, width: int) -> dict[str, Shape]:
    """Return the parameters of a LayerNorm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
