"""LoRA (Hu et al. 2022): matrices stay as they are, and a change of low rank is learned beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from preprocess.base.methods import LORA_PLACES
from pretrained_configs.draws import normal
from pretrained_configs.levels import n_levels
from tf_modeling.hooks import TrainerHook
from tf_modeling.methods.layers import freeze
from tf_modeling.model import MRCModel, parameters
from tf_modeling.nn import Linear, Module, Pass

if TYPE_CHECKING:
    from tf_modeling.trainer import Trainer


class LoRALinear(Linear):
    """y = x W' + b + s x (B A)', where A and B are learned: a product for each adapted part of the rows of W."""

    def __init__(self, linear: Linear, rank: int, scale: float, parts: Sequence[int], n_parts: int) -> None:
        """Take over W [out, in] and b; B and A are 0.

        Args:
            linear: with W and b.
            rank: rows of each A.
            scale: s.
            parts: the adapted ones, in order.
            n_parts: how many parts the rows have in all, of the same size.
        """
        Module.__init__(self)
        self.kernel, self.bias = linear.kernel, linear.bias
        n_in, n_out = linear.kernel.shape
        self.scale = scale
        self.lora_down = self.parameter(len(parts), rank, n_in)
        self.lora_up = self.parameter(len(parts), n_out // n_parts, rank)
        self._places = np.eye(n_parts, dtype=np.float32)[:, list(parts)]

    def call(self, x: tf.Tensor, run: Pass) -> tf.Tensor:
        """Project [..., in] -> [..., out], in the pass's type."""
        down, up = self._down(run.operand(self.lora_down)), self._up(run.operand(self.lora_up))
        rows = tf.reshape(tf.cast(x, run.dtype), [-1, down.shape[1]])
        change = tf.matmul(tf.matmul(rows, down, transpose_b=True), up, transpose_b=True)
        y = super().call(x, run=run)
        return y + self.scale * tf.reshape(change, tf.shape(y))

    def change(self) -> tf.Tensor:
        """Return s B A, [out, in]."""
        return self.scale * tf.matmul(self._up(self.lora_up.value), self._down(self.lora_down.value))

    @staticmethod
    def _down(values: tf.Tensor) -> tf.Tensor:
        """Return A of all parts in one matrix, [parts * rank, in]."""
        return tf.reshape(values, [-1, values.shape[-1]])

    def _up(self, values: tf.Tensor) -> tf.Tensor:
        """Return B of all parts in one matrix, [out, parts * rank]: 0 where rows and rank are of different parts."""
        rows = tf.einsum("ap,por->aopr", tf.cast(self._places, values.dtype), values)
        n_parts, n_rows, n_adapted, rank = rows.shape
        return tf.reshape(rows, [n_parts * n_rows, n_adapted * rank])


class LoRA(TrainerHook):
    """Trains changes of low rank, pooler and head; where the model is evaluated or saved they are in its weights."""

    def __init__(self, rank: int, alpha: float, targets: Sequence[str], seed: int) -> None:
        """Take rank and scale times rank, the names of the adapted matrices (`LORA_PLACES`), and the seed of A."""
        self.rank = rank
        self.scale = alpha / rank
        self.targets = tuple(targets)
        self.seed = seed
        # The module that holds an adapted matrix, its attribute, what stands there as published, and what is trained.
        self._adapted: list[tuple[Any, str, Linear, LoRALinear]] = []

    def prepare(self, model: MRCModel) -> None:
        """Freeze the encoder and put the changes beside its matrices."""
        freeze(model, n_levels(model.config))
        with model.placed():
            for layer in dict.fromkeys(model.encoder.layer_sequence()):
                for place in dict.fromkeys(LORA_PLACES[target][0] for target in self.targets):
                    self._adapt(layer, place)
        for name, p in parameters(model).items():
            if name.endswith(".lora_down"):
                p.assign(normal(name, p.shape, p.shape[-1] ** -0.5, self.seed))

    def _adapt(self, layer: Any, place: str) -> None:
        chosen = [LORA_PLACES[name] for name in LORA_PLACES if name in self.targets]
        parts = [(part, n_parts) for where, part, n_parts in chosen if where == place]
        parent_name, _, attribute = place.rpartition(".")
        parent = getattr(layer, parent_name)
        linear = getattr(parent, attribute)
        assert isinstance(linear, Linear), f"{place} is not a matrix"
        adapted = LoRALinear(linear, self.rank, self.scale, [part for part, _ in parts], parts[0][1])
        setattr(parent, attribute, adapted)
        self._adapted.append((parent, attribute, linear, adapted))

    @contextlib.contextmanager
    def evaluating(self, trainer: Trainer) -> Iterator[None]:
        """Add the changes to the weights, and let the model be what it is without them."""
        kept = []
        for parent, attribute, linear, adapted in self._adapted:
            kept.append(adapted.kernel.value.numpy())
            adapted.kernel.assign(kept[-1] + tf.transpose(adapted.change()).numpy())
            setattr(parent, attribute, linear)
        try:
            yield
        finally:
            for (parent, attribute, _, adapted), kernel in zip(self._adapted, kept, strict=True):
                adapted.kernel.assign(kernel)
                setattr(parent, attribute, adapted)
