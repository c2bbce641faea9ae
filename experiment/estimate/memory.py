"""How much memory a training step of the PyTorch backend needs: a formula, explained in docs/planning.md.

It follows the step from tensor to tensor, as pytorch_modeling computes it, and is compared with measured peaks by
tests/experiment/test_memory.py and benchmarks/memory.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from preprocess.base.errors import UsageError
from preprocess.base.methods import LORA_PLACES, Methods
from preprocess.types import HeadSpec
from pretrained_configs.config import ModelConfig
from pretrained_configs.levels import levels, n_levels
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.report import Shape

#: Bytes of a number in which matrix products run.
_COMPUTE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
#: Activation -> tensors as wide as the feed-forward block: those kept for its backward pass and the next product's,
#: and those that its backward pass adds while it runs.
_BY_ACTIVATION = {"gelu": (2, 1), "gelu_tanh": (2, 1), "quick_gelu": (3, 2), "relu": (1, 2)}
#: Bytes per token that depend on no width: ids, attention mask and token types, positions, and the mask as bool.
_PER_TOKEN = 4 * 8 + 1
#: Queries whose scores are there at a time where attention projects distances (pytorch_modeling/relative.py).
_ROWS = 64
#: bitsandbytes keeps 4 bytes per moment of smaller tensors; of others 1, and a float32 scale per so many elements.
_MIN_8BIT_SIZE, _8BIT_BLOCK = 4096, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes at one moment of a training step, by what they hold.

    Args:
        weights: parameters, float32.
        moments: the optimizer's state.
        averages: of the weights.
        gradients: those that there are at that moment, float32.
        copies: of weights, in the precision of the matrix products.
        activations: what the forward pass left for the backward pass.
        transients: what is alive at that moment only.
    """

    weights: int = 0
    moments: int = 0
    averages: int = 0
    gradients: int
    copies: int
    activations: int
    transients: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        lasting = self.weights + self.moments + self.averages
        return lasting + self.gradients + self.copies + self.activations + self.transients


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """What a process takes beside the tensors of a step.

    Args:
        fixed: bytes of libraries, and of what else does not depend on the model.
        gaps: share of the tensors that the allocator can't use because it lies between them.
        n_snapshots: copies of weights and moments, for the training checkpoint that is being written.
    """

    fixed: int
    gaps: float
    n_snapshots: int = 0

    def needed(self, step: Memory) -> int:
        """Return the bytes that a device has to have for a step."""
        snapshots = self.n_snapshots * (step.weights + step.moments + step.averages)
        return math.ceil(step.total * (1 + self.gaps) + snapshots + self.fixed)


#: On a GPU: its context and libraries. A snapshot goes to the host.
GPU_OVERHEAD = Overhead(fixed=800_000_000, gaps=0.05)
#: In a process on a CPU: Python, PyTorch and the other libraries, texts and windows. Measured: 0.56 GB with a few
#: texts, 0.67 GB with those of CMRC 2018, 0.84 GB where its windows had just been made.
CPU_OVERHEAD = Overhead(fixed=600_000_000, gaps=0.15, n_snapshots=1)


def check_host_memory(config: ModelConfig, head: HeadSpec | None, available: int) -> None:
    """Refuse a model whose weights alone are more than a machine's memory, before any of it is taken.

    Args:
        config: the architecture.
        head: of the task; None for the bare encoder.
        available: bytes, see `hardware.host_memory`.

    Raises:
        UsageError: with both sizes.
    """
    n_bytes = 4 * sum(map(math.prod, _shapes(config, head).values()))
    if n_bytes > available:
        raise UsageError(
            f"the model's weights alone take {n_bytes / 1e9:,.1f} GB, and this machine has "
            f"{available / 1e9:,.1f} GB of memory; give a smaller model"
        )


def _shapes(config: ModelConfig, head: HeadSpec | None) -> dict[str, Shape]:
    if head is None:
        return parameter_shapes(config, pooled=True)
    pooled = head.reads("sequence")
    return parameter_shapes(config, pooled=pooled, heads=head.rows, given=head.given, tied=head.tied)


def training_memory(
    config: ModelConfig,
    head: HeadSpec,
    *,
    batch: int,
    length: int,
    precision: str,
    optim: str = "adamw",
    gradient_checkpointing: int = 0,
    keeps_gradients: bool = False,
    methods: Methods | None = None,
) -> Memory:
    """Return what a training step holds when it holds most.

    Args:
        config: the architecture.
        head: of the task.
        batch: windows per forward pass.
        length: tokens per window, padding included.
        precision: "fp32", "bf16" or "fp16".
        optim: "adamw", "bert_adam" or "adamw8bit".
        gradient_checkpointing: how many of the first layers are computed again in backward.
        keeps_gradients: whether all gradients exist throughout: they do when several forward passes are accumulated,
            and in the buckets that several processes sum.
        methods: that are on; for LoRA more activations are counted than it keeps.
    """
    methods = methods or Methods()
    passes = _Passes(config, head, batch, length, precision, gradient_checkpointing, keeps_gradients, methods)
    fullest = max(passes.instants(), key=lambda instant: instant.total)
    return replace(
        fullest,
        weights=4 * sum({**passes.sizes, **passes.learned}.values()),
        moments=sum(_moments(passes.learned, optim)),
        averages=4 * sum(passes.learned.values()) if methods.uses("ema_decay") else 0,
    )


def _moments(sizes: dict[str, int], optim: str) -> Iterator[int]:
    """Yield the bytes of both moments, parameter by parameter."""
    for name, n in sizes.items():
        in_bytes = optim == "adamw8bit" and n >= _MIN_8BIT_SIZE and not _is_table(name)
        yield 2 * (n + 4 * math.ceil(n / _8BIT_BLOCK)) if in_bytes else 8 * n


def _is_table(name: str) -> bool:
    tables = ("word", "position", "token_type", "task_type")
    return name in {f"embeddings.{table}.weight" for table in tables} or name.endswith(".attention.distance.weight")


def _learned(config: ModelConfig, shapes: Mapping[str, Shape], methods: Methods) -> dict[str, int]:
    """Return the sizes of the parameters that learn."""
    last_frozen = n_levels(config) if methods.lora_rank else methods.freeze_layers or -1
    level = levels(config, shapes)
    learned = {name: math.prod(shape) for name, shape in shapes.items() if level[name] > last_frozen}
    if methods.lora_rank:
        for layer in dict.fromkeys(config.family.layers(config)):
            for target in methods.lora_targets:
                place, _, n_parts = LORA_PLACES[target]
                n_out, n_in = shapes[f"{layer}.{place}.weight"]
                learned[f"{layer}.{place}.lora {target}"] = methods.lora_rank * (n_in + n_out // n_parts)
    return learned


class _Passes:
    """A forward and a backward pass over so many windows of so many tokens."""

    def __init__(
        self,
        config: ModelConfig,
        head: HeadSpec,
        batch: int,
        length: int,
        precision: str,
        n_recomputed: int,
        keeps_gradients: bool,
        methods: Methods,
    ) -> None:
        self.config = config
        self.head = head
        self.tokens = methods.n_copies * batch * length
        self.length = length
        self.compute = _COMPUTE_BYTES[precision]
        self.rounded = self.compute < 4
        self.keeps_gradients = keeps_gradients
        shapes = _shapes(config, head)
        self.sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        #: The layers in the order in which they run, by the beginning of their parameters' names; ALBERT's repeat.
        self.order = [f"{layer}." for layer in config.family.layers(config)]
        self.recomputed = [i < n_recomputed for i in range(len(self.order))]
        self.learned = _learned(config, shapes, methods)
        #: Layers that no gradient goes through, and whether the embeddings are such.
        level = levels(config, [f"{layer}x" for layer in self.order])
        self.silent = [level[f"{layer}x"] <= methods.freeze_layers for layer in self.order]
        self.silent_embeddings = bool(methods.freeze_layers or methods.lora_rank)
        self.adversarial = methods.n_passes > methods.n_copies

    def instants(self) -> Iterator[Memory]:
        """Yield what there is, weights and moments apart, whenever it can be more than at any other time."""
        kept = [
            0 if silent else self._layer_input() if recomputed else self._layer()
            for silent, recomputed in zip(self.silent, self.recomputed, strict=True)
        ]
        embeddings = 0 if self.silent_embeddings else self._embeddings()
        outside = embeddings + _PER_TOKEN * self.tokens + self._around_layers() + self._in_head()
        loud = {layer for layer, silent in zip(self.order, self.silent, strict=True) if not silent}
        last_output = 4 * self.config.hidden_size * self.tokens
        # The last layer's forward pass.
        yield Memory(
            gradients=self._gradients(set()),
            copies=self._copies(loud),
            activations=outside + sum(kept) + last_output,
            transients=self._forward_transients(),
        )
        # Each layer's backward pass.
        for i in (i for i in reversed(range(len(self.order))) if not self.silent[i]):
            with_copies = {layer for j, layer in enumerate(self.order[:i]) if not self.recomputed[j]} & loud
            yield Memory(
                gradients=self._gradients(set(self.order[i + 1 :])),
                copies=self._copies(with_copies | {self.order[i]}),
                activations=outside + sum(kept[:i]) + self._layer(),
                transients=max(
                    self._recomputed_transients() if self.recomputed[i] else self._backward_transients(),
                    self._pairs(),
                    self._rows(),
                ),
            )
        # The embeddings' backward pass.
        yield Memory(
            gradients=self._gradients(None),
            copies=0,
            activations=outside,
            transients=0 if self.silent_embeddings else self._embedding_transients(),
        )

    def _embedding_transients(self) -> int:
        """Return gradients of LayerNorm's output and input; those of a table beside their sum over earlier passes."""
        table = 4 * self.sizes["embeddings.word.weight"] if self.keeps_gradients and not self.adversarial else 0
        return 8 * self._width * self.tokens + table

    def _size_of(self, layers: set[str]) -> int:
        return sum(n for name, n in self.sizes.items() if name.startswith(tuple(layers)))

    def _gradients(self, layers: set[str] | None) -> int:
        """Return the bytes of the gradients when those of the head and of these layers have come; of all for None.

        While an adversarial pass computes its own, those of the clean one are kept, and what moves the word table.
        """
        whole = sum(self.learned.values())
        come = {"head.", *(layers or ())}
        some = sum(n for name, n in self.learned.items() if layers is None or name.startswith(tuple(come)))
        if self.adversarial:
            return 4 * (some + whole * (1 + self.keeps_gradients) + 2 * self.sizes["embeddings.word.weight"])
        return 4 * (whole if self.keeps_gradients else some)

    def _copies(self, layers: set[str]) -> int:
        """Return the bytes of the rounded weights of these layers."""
        return self.compute * self._size_of(layers) if self.rounded else 0

    @property
    def _width(self) -> int:
        """Elements per token of the embeddings' LayerNorm."""
        return self.config.hidden_size if self.config.embedding_projection == "word" else self.config.embedding_size

    def _mask(self, width: int) -> int:
        return width if self.config.hidden_dropout_prob else 0

    def _embeddings(self) -> int:
        """What the embeddings leave for their backward pass: LayerNorm's input, the mask, the projection's input."""
        projected = self.config.embedding_size if self.config.embedding_projection != "none" else 0
        normed = 4 * self._width if self.config.family.has_embedding_norm else 0
        return (normed + self._mask(self._width) + self.compute * projected) * self.tokens

    def _around_layers(self) -> int:
        """What all layers get of distances, and what the last one's dropout leaves, with their masks."""
        hidden, family = self.config.hidden_size, self.config.family
        last = 4 * hidden + self._mask(hidden) if family.inner_dropout and self._mask(hidden) else 0
        return last * self.tokens + (4 + self._mask(1)) * family.elements_per_batch(self.config, self.length)

    def _in_head(self) -> int:
        """What a head leaves: of one that scores tokens given a position, a layer's tanh, and that normalised.

        Of one that drops some of what it reads of each token, what is left of that, and the mask.
        """
        hidden = self.config.hidden_size
        n_given = list(self.head.given.values()).count("token_given")
        n_dropping = sum(output.drops and output.per_token for output in self.head.outputs)
        dropped = 5 * hidden if self.head.dropout else 0
        return (n_given * 8 * hidden + n_dropping * dropped) * self.tokens

    def _layer_input(self) -> int:
        """What a layer leaves that is computed again."""
        return 4 * self.config.hidden_size * self.tokens

    def _layer(self) -> int:
        """What a layer leaves for its backward pass."""
        hidden, inner = self.config.hidden_size, self.config.intermediate_size
        kept, _ = _BY_ACTIVATION[self.config.hidden_act]
        # Inputs of both blocks; query, key and value; context.
        per_token = self.compute * 6 * hidden
        # In blocks (GroupedLinear) the first product comes out in float32, and the second takes a rounded copy.
        in_blocks = self.rounded and self.config.ffn_num_groups > 1
        per_token += (4 * max(1, kept - 1) + self.compute if in_blocks else self.compute * kept) * inner
        # Inputs of both LayerNorms, their means and deviations; both masks; the attention's log-sum-exp.
        per_token += 2 * (4 * hidden + 8) + 2 * self._mask(hidden) + 4 * self.config.num_attention_heads
        family = self.config.family
        if family.inner_dropout and self._mask(inner):
            # The mask between the products; and what it leaves, beside an activation that keeps its output.
            per_token += self._mask(inner) + (self.compute * inner if kept == 1 else 0)
        # What is computed once for all windows; what that was computed from is rounded in each layer.
        of_batch = (1 + self.rounded) * self.compute * family.elements_per_batch(self.config, self.length)
        return per_token * self.tokens + of_batch

    def _forward_transients(self) -> int:
        """Return input and middle of a layer in float32, where its backward pass needs rounded copies alone."""
        rounded_only = self.rounded and self.config.layer_norm_type == "postln"
        return 8 * self.config.hidden_size * self.tokens if rounded_only else 0

    def _backward_transients(self) -> int:
        """Return what backward through the feed-forward block adds, less what is not needed any more by then."""
        hidden, inner = self.config.hidden_size, self.config.intermediate_size
        _, in_activation = _BY_ACTIVATION[self.config.hidden_act]
        # Gradients of the second product's output and input, or of the activation; the mask has been used.
        per_token = self.compute * max(hidden + inner, in_activation * inner) - self._mask(hidden)
        if self.config.layer_norm_type == "preln":
            per_token += 4 * hidden  # the residual's gradient; else it stands for the LayerNorm's input
        return per_token * self.tokens + self.compute * hidden * inner // self.config.ffn_num_groups

    def _pairs(self) -> int:
        """Return what backward through attention holds for each pair of tokens, where distances are multiplied.

        A GPU computes what is added to the scores again, for all windows at once: that, its gradient, and both by
        distance, which are twice as wide; a CPU goes window by window.
        """
        products = self.config.family.distance_products(self.config)
        pairs = self.config.num_attention_heads * self.length * self.tokens
        return self.compute * (4 + products) * pairs if products else 0

    def _rows(self) -> int:
        """Return what backward through attention holds where distances are projected, less the feed-forward block.

        Scores of a few rows exist at a time: by key and by distance, their probabilities, and the gradients of these.
        """
        if not self.config.family.elements_per_batch(self.config, self.length):
            return 0
        kept, _ = _BY_ACTIVATION[self.config.hidden_act]
        scores = 4 * self.config.num_attention_heads * min(_ROWS, self.length)
        of_operands = 4 * 4 * self.config.hidden_size  # queries, keys, values, and what comes back
        per_token = 6 * scores + of_operands - self.compute * kept * self.config.intermediate_size
        return per_token * self.tokens

    def _recomputed_transients(self) -> int:
        """Return the same for a layer that is computed again, or what the end of its second forward pass adds."""
        own_input = self._layer_input() if self.rounded else 0
        output_and_gradient = 2 * self._layer_input()
        return own_input + max(self._backward_transients(), output_and_gradient + self._forward_transients() // 2)
